package main

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// words are how the value of a key reads in a sentence; the others as they are, numbers with commas.
var words = map[string]func(value string) string{
	"signal": func(v string) string {
		if name := map[string]string{"traces": "spans", "logs": "log records", "metrics": "data points", "profiles": "samples"}[v]; name != "" {
			return name
		}
		return v
	},
	"protocol": func(v string) string {
		if name := map[string]string{"grpc": "gRPC", "http": "HTTP"}[v]; name != "" {
			return name
		}
		return v
	},
	"of": func(v string) string {
		if name := map[string]string{"heap-B": "live heap, bytes", "files": "file descriptors"}[v]; name != "" {
			return name
		}
		return v
	},
	"block_on_overflow": func(v string) string {
		if v == "true" {
			return "callers wait"
		}
		return "callers are refused"
	},
	"t_ms":      func(v string) string { return "after " + number(quantity(v)/1000) + " s" },
	"request":   func(v string) string { return "requests of " + plain(v) + " items" },
	"producers": counted("producer"),
	"tenants":   counted("tenant"),
	"max": func(v string) string {
		if v == "8kB" {
			return "8,000 bytes"
		}
		return plain(v)
	},
}

func counted(noun string) func(string) string {
	return func(v string) string {
		if v != "1" {
			return plain(v) + " " + noun + "s"
		}
		return v + " " + noun
	}
}

func word(key, value string) string {
	if f := words[key]; f != nil {
		return f(value)
	}
	return plain(value)
}

var digits = regexp.MustCompile(`^\d+$`)

// plain is a value with commas if it is a number.
func plain(value string) string {
	if digits.MatchString(value) {
		return commas(value)
	}
	return value
}

var placeholder = regexp.MustCompile(`\{(\w+)\}`)

// fill puts the words for the values of a case where their keys are: "{signal}, {producers}".
func fill(text string, of keys) string {
	return placeholder.ReplaceAllStringFunc(text, func(p string) string {
		key := strings.Trim(p, "{}")
		if value, found := of[key]; found {
			return word(key, value)
		}
		return p
	})
}

// number has three digits, or all before the point.
func number(f float64) string {
	if f == 0 {
		return "0"
	}
	decimals := max(0, 2-int(math.Floor(math.Log10(math.Abs(f)))))
	s := strconv.FormatFloat(f, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return commas(s)
}

// commas separates thousands.
func commas(s string) string {
	sign, s := s[:len(s)-len(strings.TrimPrefix(s, "-"))], strings.TrimPrefix(s, "-")
	whole, rest, point := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if point {
		rest = "." + rest
	}
	return sign + whole + rest
}

// list is "a", "a and b", or "a, b and c".
func list(parts []string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}

// sentence begins with a capital letter, unless that is a name, and ends with a full stop.
func sentence(s string) string {
	if s == "" || strings.HasPrefix(s, "boundedbatch") || s[0] == '`' {
		return s + "."
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// suffixes are the units in which the medians of a unit are shown.
var suffixes = map[string]string{
	"cpu-ns/req": " ns", "ns/req": " ns", "cpu-ns/item": " ns", "ns/item": " ns", "items/s": " items/s",
	"cpu-ns/s": " %", "heap-B": " B", "heap-limit-B": " B", "heap-B/tenant": " B", "percent": " %",
	"sent-items": " items", "received-items": " items", "ram-MiB": " MiB", "ram-max-MiB": " MiB", "ms-answer/req": " ms",
	"held-B": " B", "capacity-B": " B", "before-items/s": " items/s", "after-items/s": " items/s",
	"overloaded-items/s": " items/s", "backend-items/s": " items/s", "high-per-day": " a day", "limit-per-day": " a day",
}

// lineWidth is that of the other documents.
const lineWidth = 120

// wrap breaks a paragraph into lines.
func wrap(s string) string {
	var out strings.Builder
	width := 0
	for w := range strings.FieldsSeq(s) {
		switch {
		case width == 0:
		case width+1+len(w) > lineWidth:
			out.WriteByte('\n')
			width = 0
		default:
			out.WriteByte(' ')
			width++
		}
		out.WriteString(w)
		width += len(w)
	}
	return out.String()
}
