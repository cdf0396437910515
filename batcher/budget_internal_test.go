package batcher

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func woken(w *waiter) (items []int) {
	for ; w != nil; w = w.next {
		items = append(items, w.granted.Items)
	}
	return items
}

func items(n int) Size { return Size{Items: n} }

func newAccount() *account {
	a := &account{}
	a.first.owner = a
	return a
}

func TestBudgetGrantsInOrder(t *testing.T) {
	b, a := budget{capacity: 10}, newAccount()
	require.True(t, b.take(a, items(10)))
	for _, n := range []int{8, 1, 2} {
		b.wait(a, items(n), items(1), nil)
	}
	require.Empty(t, woken(b.release(a, items(7))), "7 are free and 8 is first: nobody overtakes")
	require.False(t, b.take(a, items(1)), "not even who comes new")
	require.Equal(t, []int{8, 1}, woken(b.release(a, items(2))))
	require.Empty(t, woken(b.release(a, items(1))))
	require.Equal(t, []int{2}, woken(b.release(a, items(1))))
	require.Equal(t, 10, b.used)
}

func TestBudgetWakesEveryWaiterThatFits(t *testing.T) {
	b, a := budget{capacity: 1000}, newAccount()
	require.True(t, b.take(a, items(1000)))
	for range 1000 {
		b.wait(a, items(1), items(1), nil)
	}
	require.Len(t, woken(b.release(a, items(999))), 999)
	require.Equal(t, 1000, b.used)
	require.Equal(t, 1, b.waiting)
}

func TestBudgetWaiterThatLeavesLetsOthersIn(t *testing.T) {
	b, a := budget{capacity: 10}, newAccount()
	require.True(t, b.take(a, items(5)))
	large, small := b.wait(a, items(9), items(1), nil), b.wait(a, items(4), items(1), nil)
	require.Equal(t, []int{4}, woken(b.leave(a, large)))
	require.Equal(t, 4, small.granted.Items)
	require.Equal(t, 9, b.used)
	require.Empty(t, woken(b.leave(a, small)), "a grant that is not used is given back")
	require.Equal(t, 5, b.used)
}

func TestBudgetCloseGrantsNobody(t *testing.T) {
	for _, shared := range []bool{false, true} {
		b, a := budget{capacity: 3, shared: shared, blocks: true}, newAccount()
		holds, none := newAccount(), newAccount()
		require.True(t, b.take(holds, items(1)))
		require.True(t, b.take(a, items(2)))
		one, two, three := b.wait(a, items(1), items(1), nil), b.wait(holds, items(2), items(1), nil), b.wait(none, items(3), items(1), nil)
		all := map[*waiter]bool{}
		for w := b.close(); w != nil; w = w.next {
			all[w] = true
		}
		require.Equal(t, map[*waiter]bool{one: true, two: true, three: true}, all)
		require.Zero(t, one.granted.Items+two.granted.Items+three.granted.Items)
		require.Equal(t, 3, b.used)
		require.Zero(t, b.waiting)
		require.Empty(t, woken(b.release(a, items(2))))
	}
}

// At the default size: what is left after each of ten accounts that take all they can get,
// one after the other, in requests of some size.
func TestBudgetLeavesRoomForAnother(t *testing.T) {
	for _, request := range []int{1, 10, 100, 512, 2000, 8192, 50000} {
		b := budget{capacity: 98304, shared: true, blocks: true}
		for n := range 10 {
			a := newAccount()
			for granted := true; granted; {
				if b.take(a, items(request)) {
					continue
				}
				w := b.wait(a, items(request), items(1), nil)
				b.grantPiece()
				granted = w.granted.Items > 0
				if !granted {
					b.leave(a, w)
				}
			}
			free := b.capacity - b.used
			require.Positive(t, a.held, "request %d, stuck %d", request, n)
			require.LessOrEqual(t, a.held, 7*free, "request %d, stuck %d", request, n)
			require.GreaterOrEqual(t, free, 100, "request %d, stuck %d", request, n)
			if request == 1 && n == 0 {
				require.Equal(t, 86016, a.held, "seven eighths")
			}
		}
	}
}

func TestBudgetNewcomersComeFirstAndInPieces(t *testing.T) {
	b := budget{capacity: 1000, shared: true, blocks: true}
	stuck, other, newcomer, next := newAccount(), newAccount(), newAccount(), newAccount()
	for b.take(stuck, items(1)) {
		continue
	}
	require.Equal(t, 875, b.used)
	require.True(t, b.take(other, items(20)))
	over := b.wait(stuck, items(1), items(1), nil)
	require.Nil(t, b.grant(), "over its threshold")
	require.True(t, b.take(other, items(5)), "and so passed")

	large := b.wait(newcomer, items(500), items(1), nil)
	require.Nil(t, b.grant())
	require.Equal(t, []int{25}, woken(b.grantPiece()), "a quarter of 100")
	require.Equal(t, 25, large.granted.Items)
	last := b.wait(next, items(39), items(1), nil)
	require.Nil(t, b.grant(), "would leave less than half of 75")
	require.False(t, b.take(other, items(1)), "nobody passes")
	require.Equal(t, []int{39}, woken(b.release(other, items(2))))
	require.Equal(t, 39, last.granted.Items)
	require.Nil(t, b.grantPiece())

	again := b.wait(newcomer, items(475), items(1), nil)
	require.Nil(t, b.grantPiece(), "no newcomer any more")
	require.Nil(t, b.release(newcomer, items(24)))
	require.Nil(t, b.release(newcomer, items(1)))
	require.Equal(t, []int{15}, woken(b.grantPiece()), "until all has left")
	require.Equal(t, 15, again.granted.Items)
	require.Equal(t, []int{1}, woken(b.release(stuck, items(875))))
	require.Equal(t, 1, over.granted.Items)
}

func TestBudgetPieceOfAnEmptyOneLeavesAnEighth(t *testing.T) {
	b := budget{capacity: 1000, shared: true, blocks: true}
	b.wait(newAccount(), items(900), items(1), nil)
	require.Equal(t, []int{875}, woken(b.grantPiece()))
}

func TestBudgetWithoutWaitsAdmitsWhatFits(t *testing.T) {
	b, a := budget{capacity: 100, shared: true}, newAccount()
	require.True(t, b.take(a, items(100)), "no piece of it could be refused")
	b.release(a, items(100))
	require.True(t, b.take(a, items(80)))
	require.False(t, b.take(a, items(10)), "90 > 7 x 10")
	require.False(t, b.take(newAccount(), items(11)), "a newcomer leaves half of what is free")
	require.True(t, b.take(newAccount(), items(10)))
}

// The budget is checked against a list of all waiters and sums, with one account and with
// several, in items alone and in items and heap.
func TestBudgetIsExact(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		m := newBudgetModel(random)
		for range 500 {
			m.step(t, random)
		}
	}
}

// FuzzBudget is TestBudgetIsExact for a fuzzer: a budget and what happens to it are choices read from bytes.
func FuzzBudget(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, budget, steps []byte) {
		m := newBudgetModel(&Written{budget})
		for left := (&Written{steps}); len(left.Left) > 0; {
			m.step(t, left)
		}
		m.drain(t)
	})
}

// budgetModel says what a budget may do, in the most simple way.
type budgetModel struct {
	b        budget
	accounts []*accountModel
}

type accountModel struct {
	*account
	grants  []Size    // what was taken or granted
	waiting []*waiter // in order
}

func newBudgetModel(choose Choices) *budgetModel {
	m := &budgetModel{b: budget{capacity: 1 + choose.IntN(50), blocks: true, shared: choose.IntN(3) > 0}}
	n := 1
	if m.b.shared {
		n += choose.IntN(6)
		m.b.capacity += choose.IntN(2000)
	}
	if choose.IntN(2) == 0 {
		m.b.heavy, m.b.heapCapacity = true, 1+choose.IntN(100_000)
	}
	for range n {
		m.accounts = append(m.accounts, &accountModel{account: newAccount()})
	}
	return m
}

// request returns a size that is within the capacity.
func (m *budgetModel) request(choose Choices) Size {
	s := items(1 + choose.IntN(m.b.capacity))
	if choose.IntN(2) == 0 {
		s = items(1 + choose.IntN(1+m.b.capacity/20))
	}
	if m.b.heavy {
		s.Heap = choose.IntN(m.b.heapCapacity + 1)
		if choose.IntN(2) == 0 {
			s.Heap = choose.IntN(m.b.heapCapacity/20 + 1)
		}
	}
	return s
}

// step does one thing to the budget, and looks at all of it.
func (m *budgetModel) step(t *testing.T, choose Choices) {
	a := m.accounts[choose.IntN(len(m.accounts))]
	switch choose.IntN(5) {
	case 0, 1, 4:
		m.arrive(t, a, m.request(choose))
	case 2:
		if len(a.grants) > 0 {
			m.giveBack(t, a, choose.IntN(len(a.grants)))
		}
	case 3:
		if len(a.waiting) > 0 {
			m.giveUp(t, a, choose.IntN(len(a.waiting)))
		}
	}
	if choose.IntN(4) == 1 {
		m.piece(t)
	}
	m.check(t)
}

// giveBack releases what somebody holds.
func (m *budgetModel) giveBack(t *testing.T, a *accountModel, i int) {
	s := a.grants[i]
	a.grants = slices.Delete(a.grants, i, i+1)
	m.granted(t, m.b.release(a.account, s))
}

// giveUp ends somebody's wait.
func (m *budgetModel) giveUp(t *testing.T, a *accountModel, i int) {
	w := a.waiting[i]
	a.waiting = slices.Delete(a.waiting, i, i+1)
	m.granted(t, m.b.leave(a.account, w))
}

// drain gives back all that is held and admits all who wait, in pieces where they must be.
func (m *budgetModel) drain(t *testing.T) {
	for m.b.used > 0 || m.b.waiting > 0 {
		before := m.b.waiting
		m.piece(t)
		moved := m.b.waiting < before
		for _, a := range m.accounts {
			for len(a.grants) > 0 {
				m.giveBack(t, a, 0)
				m.check(t)
				moved = true
			}
		}
		require.True(t, moved, "%d wait for ever for %d of %d", m.b.waiting, m.b.used, m.b.capacity)
	}
	require.Zero(t, m.b.heapUsed)
}

func (a *accountModel) held() (sum Size) {
	for _, s := range a.grants {
		sum = sum.plus(s)
	}
	return sum
}

func (m *budgetModel) free() Size {
	free := Size{Items: m.b.capacity, Heap: m.b.heapCapacity}
	for _, a := range m.accounts {
		free = free.minus(a.held())
	}
	return free
}

// part is the larger, or the smaller, part that s is of the capacity, in items.
func (m *budgetModel) part(s Size, of func(...float64) float64) float64 {
	if !m.b.heavy {
		return float64(s.Items)
	}
	return of(float64(s.Items), float64(s.Heap)*float64(m.b.capacity)/float64(m.b.heapCapacity))
}

func larger(parts ...float64) float64  { return slices.Max(parts) }
func smaller(parts ...float64) float64 { return slices.Min(parts) }

// may tells whether a may have s now, nobody else considered. Where that is within what
// rounding can change, it says so.
func (m *budgetModel) may(a *accountModel, s Size) (may, sure bool) {
	free, held := m.free(), a.held()
	fits := s.Items <= free.Items && s.Heap <= free.Heap
	if !fits || !m.b.shared {
		return fits, true
	}
	left, size, capacity := m.part(free, smaller), m.part(s, larger), float64(m.b.capacity)
	if held.Items > 0 {
		// What it holds afterwards is to be within the threshold of what is left then.
		over := m.part(held.plus(s), larger)*capacity - 56*(left-size)*(left-size)
		return size <= left && over <= 0, math.Abs(over) > 1e-6*capacity || !m.b.heavy
	}
	leave := math.Floor(min(left/2, math.Floor(capacity/8)))
	most := max(left-leave, min(left, 1))
	return size <= most, math.Abs(size-most) > 1e-9*capacity || !m.b.heavy
}

// anybodyFirst tells whether a newcomer waits, whom nobody passes.
func (m *budgetModel) anybodyFirst() bool {
	return slices.ContainsFunc(m.accounts, func(a *accountModel) bool {
		return len(a.waiting) > 0 && (a.held().Items == 0 || !m.b.shared)
	})
}

func (m *budgetModel) arrive(t *testing.T, a *accountModel, s Size) {
	may, sure := m.may(a, s)
	want := len(a.waiting) == 0 && !m.anybodyFirst() && may
	got := m.b.take(a.account, s)
	if sure || !got {
		require.Equal(t, want, got || !sure && want, "%+v free, %+v held, %+v asked for", m.free(), a.held(), s)
	}
	if got {
		a.grants = append(a.grants, s)
		return
	}
	a.waiting = append(a.waiting, m.b.wait(a.account, s, Size{Items: 1, Heap: min(s.Heap, m.b.heapCapacity/50)}, nil))
}

// piece grants a piece, and checks that it went to a newcomer who was to wait.
func (m *budgetModel) piece(t *testing.T) {
	free := m.free()
	w := m.b.grantPiece()
	if w == nil {
		require.True(t, m.b.heavy || free.Items == 0 || !m.anybodyFirst() || !m.b.shared)
		return
	}
	others := w.next
	i := slices.IndexFunc(m.accounts, func(a *accountModel) bool { return len(a.waiting) > 0 && a.waiting[0] == w })
	a := m.accounts[i]
	require.Zero(t, a.held())
	if m.b.heavy {
		require.True(t, w.granted.within(Size{w.want.Items, math.MaxInt, w.want.Heap}), "%+v", w)
		require.True(t, w.least.within(w.granted), "%+v", w)
		require.True(t, w.granted.within(Size{free.Items, math.MaxInt, free.Heap}), "%+v", w)
		if w.least.Heap < w.granted.Heap && w.granted.Items > 1 { // more than must be
			require.Less(t, m.part(w.granted, larger), max(m.part(free, smaller)-float64(m.b.capacity/8), m.part(free, smaller)/4+1)+1, "%+v of %+v", w, free)
		}
	} else {
		require.Equal(t, min(w.want.Items, max(1, free.Items/4, free.Items-m.b.capacity/8)), w.granted.Items)
	}
	a.waiting = a.waiting[1:]
	a.grants = append(a.grants, w.granted)
	m.granted(t, others)
}

// granted checks that everybody who was granted could be, in this order.
func (m *budgetModel) granted(t *testing.T, got *waiter) {
	for ; got != nil; got = got.next {
		i := slices.IndexFunc(m.accounts, func(a *accountModel) bool { return len(a.waiting) > 0 && a.waiting[0] == got })
		require.GreaterOrEqual(t, i, 0, "not the first of its account")
		a := m.accounts[i]
		if m.b.shared && a.held().Items > 0 {
			require.False(t, m.anybodyFirst(), "a newcomer was passed")
		}
		may, sure := m.may(a, got.want)
		require.True(t, may || !sure, "%+v of %+v", got, m.free())
		require.Equal(t, got.want, got.granted)
		a.waiting = a.waiting[1:]
		a.grants = append(a.grants, got.granted)
	}
}

// check compares the sums, and sees that nobody waits who could come in.
func (m *budgetModel) check(t *testing.T) {
	waiting := 0
	for _, a := range m.accounts {
		if m.b.shared {
			require.Equal(t, Size{Items: a.account.held, Heap: a.heap}, a.held())
		}
		waiting += len(a.waiting)
	}
	used := Size{Items: m.b.capacity, Heap: m.b.heapCapacity}.minus(m.free())
	require.Equal(t, Size{Items: m.b.used, Heap: m.b.heapUsed}, used)
	require.True(t, used.within(Size{Items: m.b.capacity, Heap: m.b.heapCapacity}))
	require.Equal(t, waiting, m.b.waiting)
	first := m.b.first.front
	for _, a := range m.accounts {
		if len(a.waiting) > 0 && (first == nil || first.owner == a.account) {
			may, sure := m.may(a, a.waiting[0].want)
			require.False(t, may && sure, "could come in: %+v of %+v, %+v held, %v needed", a.waiting[0].want, m.free(), a.held(), a.need)
		}
	}
}

func TestBudgetReleaseOfMoreThanIsHeldPanics(t *testing.T) {
	b, a, c := budget{capacity: 5, shared: true, heavy: true, heapCapacity: 100}, newAccount(), newAccount()
	require.True(t, b.take(a, Size{Items: 1, Heap: 10}))
	require.True(t, b.take(c, Size{Items: 1, Heap: 10}))
	require.PanicsWithValue(t, "batcher: more items released than held", func() { b.release(a, items(2)) })
	require.PanicsWithValue(t, "batcher: more bytes released than held", func() { b.release(a, Size{Items: 1, Heap: 11}) })
}
