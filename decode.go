package boundedbatchprocessor

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/confmap"
)

var _ confmap.Unmarshaler = (*Config)(nil)

// Unmarshal decodes as the Collector does and then judges each key by itself: the
// Collector's decoder takes a duration without a unit for nanoseconds, cuts fractions
// off, wraps large numbers around, and names no value in its errors.
func (cfg *Config) Unmarshal(conf *confmap.Conf) error {
	decoding := conf.Unmarshal(cfg)
	errs := judgeKeys("", reflect.TypeFor[Config](), conf.ToStringMap(), decoding != nil)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return decoding
}

// judgeKeys judges what was written under path for a struct of type t, and for those
// inside it.
func judgeKeys(path string, t reflect.Type, written map[string]any, failed bool) (errs []error) {
	keys, types := keysOf(t)
	for _, key := range slices.Sorted(maps.Keys(written)) {
		value := written[key]
		of, known := types[key]
		if !known {
			errs = append(errs, fmt.Errorf("%s%s: unknown key (value %v); accepted are %s", path, key, value, strings.Join(keys, ", ")))
			continue
		}
		if inner, ok := value.(map[string]any); ok && of.Kind() == reflect.Struct {
			errs = append(errs, judgeKeys(path+key+confmap.KeyDelimiter, of, inner, failed)...)
			continue
		}
		if accepted := judge(of, value, failed); accepted != "" {
			errs = append(errs, fmt.Errorf("%s%s: %s is no %s", path, key, text(value), accepted))
		}
	}
	return errs
}

// keysOf lists the keys of a struct in the order of the documentation, and their types.
func keysOf(t reflect.Type) (keys []string, types map[string]reflect.Type) {
	types = make(map[string]reflect.Type)
	for f := range t.Fields() {
		if key := f.Tag.Get("mapstructure"); key != "" {
			keys = append(keys, key)
			types[key] = f.Type
		}
	}
	return keys, types
}

// judge returns what a value should have been, or "" if it is right for a field of type
// t. Lists are judged only if decoding failed: what an environment variable put into
// them looks like a number here and is decoded as the string it was written as.
func judge(t reflect.Type, value any, failed bool) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case value == nil: // no value is the zero value, everywhere in a Collector
	case t == reflect.TypeFor[time.Duration]():
		if !isDuration(value) {
			return "duration; accepted are numbers with a unit, such as 200ms or 5s"
		}
	case t == reflect.TypeFor[ByteSize]():
		if !isSize(value) {
			return acceptedSizes
		}
	case t.Kind() == reflect.Int:
		if !isInt(value) {
			return fmt.Sprintf("int; accepted are whole numbers up to %d", math.MaxInt)
		}
	case t.Kind() == reflect.Float64:
		if !isFloat(value) {
			return "number; accepted are numbers such as 1.5"
		}
	case t.Kind() == reflect.Bool:
		if _, ok := value.(bool); !ok {
			return "bool; accepted are true and false"
		}
	case t.Kind() == reflect.Slice:
		if failed && !isStrings(value) {
			return "list of strings; accepted are lists such as [tenant, project]"
		}
	case t.Kind() == reflect.Struct:
		keys, _ := keysOf(t)
		return "map; accepted are maps with the keys " + strings.Join(keys, ", ")
	}
	return ""
}

func isDuration(value any) bool {
	switch v := value.(type) {
	case time.Duration:
		return true
	case string:
		_, err := time.ParseDuration(v)
		return err == nil
	}
	return value == 0
}

func isSize(value any) bool {
	if text, ok := value.(string); ok {
		_, ok = parseByteSize(text)
		return ok
	}
	return isInt(value)
}

func isInt(value any) bool {
	switch v := value.(type) {
	case int:
		return true
	case int64: // what does not fit into an int of 32 bits
		return int64(int(v)) == v
	case float64: // 1e6
		return v == math.Trunc(v) && math.Abs(v) < 1<<53 && math.Abs(v) <= math.MaxInt
	}
	return false
}

func isFloat(value any) bool {
	switch value.(type) {
	case float64, int, int64:
		return true
	}
	return false
}

func isStrings(value any) bool {
	if _, ok := value.(string); ok {
		return true
	}
	list, ok := value.([]any)
	return ok && !slices.ContainsFunc(list, func(e any) bool {
		_, isString := e.(string)
		return !isString
	})
}

// text is a value as its author wrote it, quoted if it is a string.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return strconv.Quote(v)
	case float64:
		if math.Abs(v) < 1e21 {
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	return fmt.Sprint(value)
}
