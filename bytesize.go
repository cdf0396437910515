package boundedbatchprocessor

import (
	"encoding"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

var (
	_ encoding.TextUnmarshaler = (*ByteSize)(nil)
	_ encoding.TextMarshaler   = ByteSize(0)
)

// ByteSize is a number of bytes. A configuration has it as a whole number of bytes, or as
// text with a unit, such as 4MiB, 1.5GiB or "500 kB".
type ByteSize int

// byteUnits are the units of a ByteSize, the smallest first. The powers of 1024 are
// written as in GOMEMLIMIT.
var byteUnits = []struct {
	name  string
	bytes int64
}{
	{"B", 1},
	{"kB", 1e3},
	{"KiB", 1 << 10},
	{"MB", 1e6},
	{"MiB", 1 << 20},
	{"GB", 1e9},
	{"GiB", 1 << 30},
	{"TB", 1e12},
	{"TiB", 1 << 40},
}

// acceptedSizes is what an error says of a value that is none.
var acceptedSizes = fmt.Sprintf("size; accepted are whole numbers of bytes up to %d, as a number such as 4194304 "+
	"or with a unit (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB) such as 512MiB or 1.5GiB", math.MaxInt)

var numberWithUnit = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*)$`)

// UnmarshalText implements encoding.TextUnmarshaler. Text without a unit is a number of
// bytes.
func (b *ByteSize) UnmarshalText(text []byte) error {
	size, ok := parseByteSize(string(text))
	if !ok {
		return fmt.Errorf("%q is no %s", text, acceptedSizes)
	}
	*b = size
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (b ByteSize) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String is the size, exactly, in the largest unit of which it is a whole number.
func (b ByteSize) String() string {
	if b == 0 {
		return "0B"
	}
	in := byteUnits[0]
	for _, unit := range byteUnits {
		if int64(b)%unit.bytes == 0 {
			in = unit
		}
	}
	return strconv.FormatInt(int64(b)/in.bytes, 10) + in.name
}

func parseByteSize(text string) (size ByteSize, ok bool) {
	parts := numberWithUnit.FindStringSubmatch(text)
	if parts == nil {
		return 0, false
	}
	unit, known := bytesIn(parts[2])
	number, valid := new(big.Rat).SetString(parts[1])
	if !known || !valid {
		return 0, false
	}
	bytes := number.Mul(number, new(big.Rat).SetInt64(unit))
	if !bytes.IsInt() || bytes.Num().Cmp(big.NewInt(math.MaxInt)) > 0 {
		return 0, false
	}
	return ByteSize(bytes.Num().Int64()), true
}

// bytesIn is how many bytes a unit is. Case does not matter, with one exception: a small b
// behind a capital letter means bits to many, as in Mb. And M alone is 1000 x 1000 bytes to
// some and 1024 x 1024 to others, so it is no unit.
func bytesIn(unit string) (bytes int64, known bool) {
	if unit == "" {
		return 1, true
	}
	for _, u := range byteUnits {
		if strings.EqualFold(u.name, unit) {
			return u.bytes, strings.HasSuffix(unit, "B") || unit == strings.ToLower(unit)
		}
	}
	return 0, false
}
