package boundedbatchprocessor

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

var updateSchema = flag.Bool("update-schema", false, "write "+schemaFile)

const schemaFile = "config.schema.json"

// TestSchemaDescribesTheConfiguration: the JSON schema, by which editors complete, explain and check the keys, is what
// Config, its defaults, its validation and the README say. make generate writes it.
func TestSchemaDescribesTheConfiguration(t *testing.T) {
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	require.NoError(t, encoder.Encode(schemaOfCollector(t)))
	if *updateSchema {
		require.NoError(t, os.WriteFile(schemaFile, want.Bytes(), 0o644)) //nolint:gosec // for everybody to read
	}
	require.Equal(t, want.String(), readDoc(t, schemaFile), "%s is stale: run make generate", schemaFile)
}

type schema = map[string]any

// schemaOfCollector is for a whole configuration, in which it says nothing of anything else.
func schemaOfCollector(t *testing.T) schema {
	t.Helper()
	processors := schema{
		"type":              []string{"object", "null"},
		"patternProperties": schema{"^boundedbatch(/.+)?$": schema{"$ref": "#/definitions/boundedbatch"}},
	}
	return schema{
		"$schema":     "http://json-schema.org/draft-07/schema#",
		"title":       "Configuration of an OpenTelemetry Collector with the boundedbatch processor",
		"description": "Only boundedbatch processors are described. What one key allows may depend on another: otelcol validate checks that.",
		"type":        "object",
		"properties":  schema{"processors": processors},
		"definitions": schema{
			"boundedbatch": schemaOf(t, "", reflect.TypeFor[Config](), effects(t)),
			"environment": schema{
				"description": "A value that is put in when the configuration is read.",
				"type":        "string", "pattern": `\$\{.+\}`,
			},
		},
	}
}

// effects is what the README says of each key.
func effects(t *testing.T) map[string]string {
	t.Helper()
	byKey := make(map[string]string)
	for _, row := range tableUnder(readDoc(t, "README.md"), "## Configuration") {
		effect := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(row[4], "$1")
		effect = regexp.MustCompile(` More under [^.]*\.`).ReplaceAllString(effect, "")
		byKey[strings.Trim(row[0], "`")] = strings.ReplaceAll(effect, "`", "")
	}
	return byKey
}

// schemaOf is the schema of a struct whose keys begin with path.
func schemaOf(t *testing.T, path string, of reflect.Type, effects map[string]string) schema {
	t.Helper()
	properties := make(schema)
	for f := range of.Fields() {
		key := f.Tag.Get("mapstructure")
		switch {
		case key == "":
		case f.Type.Kind() == reflect.Struct:
			properties[key] = schemaOf(t, path+key+confmap.KeyDelimiter, f.Type, effects)
		default:
			p := schema{"description": effects[path+key], "anyOf": append(accepted(path+key, f.Type), environment, schema{"type": "null"})}
			if value, has := defaultOf(path + key); has {
				p["default"] = value
			}
			properties[key] = p
		}
	}
	return schema{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
}

var environment = schema{"$ref": "#/definitions/environment"}

// accepted is what a key of that type takes by itself.
func accepted(key string, of reflect.Type) []any {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch {
	case of == reflect.TypeFor[time.Duration]():
		return []any{
			schema{"type": "string", "pattern": `^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$|^[+-]?0$`},
			schema{"const": 0},
		}
	case of == reflect.TypeFor[ByteSize]():
		return []any{
			schema{"type": "integer", "minimum": 0, "maximum": int64(math.MaxInt64)},
			schema{"type": "string", "pattern": `^[0-9]+(\.[0-9]+)? *([Kk][Ii]?|[Mm][Ii]?|[Gg][Ii]?|[Tt][Ii]?)?B$|^[0-9]+(\.[0-9]+)? *([kmgt]i?)?b$|^[0-9]+(\.0+)?$`},
		}
	case of.Kind() == reflect.Slice:
		return []any{
			schema{"type": "array", "items": schema{"type": "string", "minLength": 1}, "uniqueItems": true},
			schema{"type": "string", "minLength": 1}, // a list of one
		}
	case of.Kind() == reflect.Bool:
		return []any{schema{"type": "boolean"}}
	}
	number := schema{"type": "integer", "maximum": int64(math.MaxInt64)}
	if of.Kind() == reflect.Float64 {
		number = schema{"type": "number"}
	}
	for _, bound := range []struct {
		name   string
		values []any
	}{
		{"minimum", []any{0, 1}}, {"maximum", []any{1}},
	} {
		for _, value := range bound.values {
			if isBound(key, bound.name, value) {
				number[bound.name] = value
			}
		}
	}
	return []any{number}
}

// isBound tells whether the validation takes this value of a key, and none beyond it, whatever the other keys say.
func isBound(key, bound string, value any) bool {
	beyond := map[string]int{"minimum": -1, "maximum": 1}[bound]
	return takes(key, value.(int)) && !takes(key, value.(int)+beyond) && !takes(key, value.(int)+1000*beyond)
}

// takes tells whether there is a valid configuration with that value.
func takes(key string, value int) bool {
	for _, retries := range []bool{false, true} {
		all := map[string]any{"send_batch_size": 0, "queue_size": 1_000_000, "max_concurrent_exports": 100_000, "retry_on_failure::enabled": retries}
		all[key] = value
		if _, err := decode(confmap.NewFromStringMap(all)); err == nil {
			return true
		}
	}
	return false
}

// defaultOf is the default of a key as it is written, if it has one of its own.
func defaultOf(key string) (value any, has bool) {
	field := keys()[key](createDefaultConfig().(*Config))
	switch v := field.Interface().(type) {
	case *bool:
		return nil, false
	case time.Duration:
		return v.String(), true
	case ByteSize:
		return int(v), true
	case []string:
		return []string{}, true
	default:
		return v, true
	}
}
