package compat

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"

	"github.com/boundedbatch/boundedbatchprocessor"
	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/migration"
)

// shared returns the five keys that both have, as a configuration has them.
func shared(cfg component.Config) string {
	v := reflect.ValueOf(cfg).Elem()
	text := ""
	for _, field := range []string{"Timeout", "SendBatchSize", "SendBatchMaxSize", "MetadataKeys", "MetadataCardinalityLimit"} {
		text += fmt.Sprintf("%s: %v\n", field, v.FieldByName(field))
	}
	return text
}

// What both accept means the same to both, unless the table says why not.
func TestRenamedConfigurationMeansTheSame(t *testing.T) {
	configs := migration.Agreed()
	for _, row := range migration.Rows() {
		configs = append(configs, row.Config)
	}
	for _, config := range configs {
		was, err := configure(batch, config)
		require.NoError(t, err, "batch: %s", config)
		is, err := configure(boundedbatch, config)
		require.NoError(t, err, "boundedbatch: %s", config)
		assert.Equal(t, shared(was), shared(is), config)
	}
}

// Everything but the five keys is at its default, so that the rows are about these alone.
func TestRowsHaveTheFiveKeysOnly(t *testing.T) {
	for _, row := range migration.Rows() {
		cfg, err := configure(boundedbatch, row.Config)
		require.NoError(t, err)
		is := cfg.(*boundedbatchprocessor.Config)
		rest := boundedbatch.CreateDefaultConfig().(*boundedbatchprocessor.Config)
		rest.Timeout, rest.SendBatchSize, rest.SendBatchMaxSize = is.Timeout, is.SendBatchSize, is.SendBatchMaxSize
		rest.MetadataKeys, rest.MetadataCardinalityLimit = is.MetadataKeys, is.MetadataCardinalityLimit
		assert.Equal(t, rest, is, row.Config)
	}
}

func TestRefusedConfigurationsAreThoseOfTheTable(t *testing.T) {
	for _, tt := range migration.Settings() {
		t.Run(tt.Config, func(t *testing.T) {
			was, batchErr := configure(batch, tt.Config)
			is, err := configure(boundedbatch, tt.Config)
			assert.Equal(t, tt.Batch == migration.Accepts, batchErr == nil, "batch accepts it: %v", batchErr)
			assert.Equal(t, tt.BoundedBatch == migration.Accepts, err == nil, "boundedbatch accepts it: %v", err)
			same := (batchErr == nil) == (err == nil) && (err != nil || shared(was) == shared(is))
			assert.Equal(t, tt.Why == nil, same, "the two agree; the reason why they do not is %v", tt.Why)
		})
	}
}
