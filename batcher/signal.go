package batcher

import "go.opentelemetry.io/collector/pdata/pcommon"

// Signal is what the engine needs to know about one kind of pdata. An
// implementation holds no state: its methods are called from many goroutines at
// once, each time on data that only the caller of the method owns.
type Signal[T any] interface {
	// Name is the signal's name in errors and profiler labels, such as "traces".
	Name() string

	// New returns data without items and with room for that many resources.
	New(resources int) T

	// Items counts spans, log records, metric data points or profile samples.
	Items(data T) int

	// Resources counts the entries of the outermost level.
	Resources(data T) int

	// Bytes is the size of data in OTLP's binary encoding. It walks all of it.
	Bytes(data T) int

	// Move appends everything in src to dst and leaves src empty. The cost is one
	// pointer per resource; no item is copied.
	Move(src, dst T)

	// Resource is the resource of one entry of the outermost level.
	Resource(data T, entry int) pcommon.Resource

	// Distribute moves each entry of the outermost level, in order, to the data that to returns
	// for its resource, and leaves data empty. No item is copied.
	Distribute(data T, to func(pcommon.Resource) T)

	// ItemsAt counts the items of one entry of the outermost level.
	ItemsAt(data T, resource int) int

	// Copy returns a copy of the entries of the outermost level from one index up to,
	// but without, another. It only reads data, also where data is marked read-only.
	Copy(data T, from, to int) T

	// Merge puts elements of data together that are equal but for what is in them.
	Merge(data T, m *Merger)

	// Pick copies what p picks of merged data, with all that it lies in. It only reads data.
	Pick(data T, p *Picker) T

	// Heap estimates the bytes of memory that data takes. It walks all of it.
	Heap(data T) int

	// Measure writes down in z the sizes of everything in data, in one walk. Their sums are
	// what Bytes and Heap return, as far as z asks for them. It may change data meanwhile.
	Measure(data T, z *Sizes)

	// Cut begins to take data apart by the sizes that were measured; nil: only items count.
	// The caller must not use data afterwards but through the Cutter.
	Cut(data T, z *Sizes) Cutter[T]

	// Partial wraps err so that a sender finds the rest of its request in it and
	// repeats only that. The result counts as retryable.
	Partial(err error, rest T) error

	// FailedPart returns the part of an export that failed, if err names one, as the
	// errors made by Partial do.
	FailedPart(err error) (T, bool)

	// Ref takes a reference to data, so that its memory is not used again for other
	// data when whoever owns it lets go of it. Unref gives back one reference. Where
	// the Collector does not pool its data they do nothing that matters.
	Ref(data T)
	Unref(data T)
}

// Cutter takes one request apart from front to back in a single pass: n calls on
// a request of m items cost O(n + m). It is not safe for concurrent use.
type Cutter[T any] interface {
	// Left is the size of what Rest would return.
	Left() Size

	// First is the size of the first item that is left, with all that it must lie in, or of
	// something without items that comes before it. Requires that any is left.
	First() Size

	// Next moves out as much of what is left as fits into room, and tells its size.
	// Resources, scopes and metrics that end within are moved whole; only those at the cut
	// are copied. Items is 0 in the size if there was no room for an item.
	Next(room Size) (T, Size)

	// Alone moves out what First tells of.
	Alone() T

	// Rest moves out all that is left, entries without items included.
	Rest() T

	// RestSizes returns the sizes of what Rest is about to move out, if they are known and can be told
	// apart; nil otherwise. They take the place of those that the request was cut by, so nothing
	// but Rest is to be called afterwards.
	RestSizes() *Sizes
}

// sharing is a Signal whose data have dictionaries. Data in a batch share one, so their sizes do not
// add up. Nor is it cut between all items.
type sharing[T any] interface {
	// check returns an error if data is not what it claims to be.
	check(data T) error

	// normalize makes data such that its size does not change when something is moved into it, but
	// for what that has.
	normalize(data T)

	// bound is the most by which Bytes of a batch grows when data is moved into it, or is all
	// that is in it, if the batch has at most limit then.
	bound(data T, limit int) int

	// added is by how much Bytes of dst, which has items, grows when src is moved into it. It only
	// prepares dst for that.
	added(src, dst T) int

	// fill is cut.Next for what is to be moved into dst, which has items. The size is by how much that
	// grows then. It only prepares dst for that.
	fill(cut Cutter[T], room Size, dst T) (T, Size)

	// outer is Bytes without the dictionary: what is moved into data adds up there.
	outer(data T) int

	// discount makes outer count so much less, for something in data that is going to be left out.
	discount(data T, bytes int)

	// only moves some entries of the outermost level to a result of its own, with a dictionary
	// of what they refer to. No index in them is larger than in data, to which normalize was applied.
	only(data T, entries []int) T

	// unprepare forgets what only takes memory while nothing is moved into data.
	unprepare(data T)

	// most is the number of items in the largest part of data that is never cut.
	most(data T) int
}
