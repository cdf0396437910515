package bench

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
)

// quotients divides one by one.
func quotients(values, by []float64) []float64 {
	all := make([]float64, len(values))
	for i := range values {
		all[i] = values[i] / by[i]
	}
	return all
}

func median[N cmp.Ordered](values []N) N {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func skipIfShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("measures for many seconds")
	}
}

// measured are the signals that the tests are about. What holds for data points is shown, and has few limits.
func measured() []anySignal {
	if *fullFlag {
		return all
	}
	return []anySignal{&traces, &logs}
}

// table is printed for people to read.
type table struct{ w *tabwriter.Writer }

func newTable(columns ...any) table {
	t := table{tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)}
	fmt.Fprintln(t.w)
	t.row(columns...)
	return t
}

func (t table) row(cells ...any) {
	for _, c := range cells {
		if f, ok := c.(float64); ok {
			c = number(f)
		}
		fmt.Fprint(t.w, c, "\t")
	}
	fmt.Fprintln(t.w)
}

func (t table) print() { _ = t.w.Flush() }

// number prints three digits or all before the point.
func number(f float64) string {
	if f >= 100 {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.3g", f)
}
