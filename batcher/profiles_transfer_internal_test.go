package batcher

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pprofile"
)

// A transfer is used again and again. What a round four thousand million rounds ago has numbered must not
// count in the one that has its number now.
func TestNumbersOfAnOldRoundDoNotCount(t *testing.T) {
	pd := pprofile.NewProfiles()
	pd.Dictionary().StringTable().Append("", "a", "b")
	tr := newTransfer(NewProfilesData(pd))
	tr.round = 0
	tr.begin(nil, 0)
	require.EqualValues(t, 1, tr.round)
	strings := tr.places[stringTable][:cap(tr.places[stringTable])]
	for i := range strings {
		strings[i] = numbered{round: 1, index: 7}
	}
	tr.places[stringTable] = strings[:1] // the next one may be of more entries
	tr.round = math.MaxUint32
	tr.begin(nil, 0)
	require.EqualValues(t, 1, tr.round)
	for _, s := range strings {
		require.Zero(t, s)
	}
}
