package migration

import "strings"

// Example is a configuration in the documentation of batch v0.164.0.
type Example struct {
	Text string
	Used []string // names of the processors in it, without the type
}

// Of returns the text and the names of its processors for a type of processor.
func (e Example) Of(component string) (text string, used []string) {
	for _, name := range e.Used {
		used = append(used, component+name)
	}
	renamed := strings.NewReplacer("\n  batch:", "\n  "+component+":", "\n  batch/", "\n  "+component+"/")
	return renamed.Replace(e.Text), used
}

// Examples returns all of them: those in its README, and the file to which that refers.
func Examples() []Example {
	return []Example{
		{Used: []string{"", "/2"}, Text: `processors:
  batch:
  batch/2:
    send_batch_size: 10000
    timeout: 10s
`},
		{Used: []string{""}, Text: `processors:
  batch:
    send_batch_max_size: 10000
    timeout: 0s
`},
		{Used: []string{""}, Text: `processors:
  batch:
    # batch data by tenant-id
    metadata_keys:
    - tenant_id

    # limit to 10 batcher processes before raising errors
    metadata_cardinality_limit: 10
`},
		{Used: []string{""}, Text: `processors:
  batch:
    timeout: 10s
    send_batch_size: 10000
    send_batch_max_size: 11000
`},
	}
}
