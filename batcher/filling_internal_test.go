package batcher

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pprofile"
)

// whileFilled are profiles with something that happens while one is looked for that fills a batch up.
type whileFilled struct {
	profiles
	hook func(dst *ProfilesData)
}

func (s *whileFilled) fill(cut Cutter[*ProfilesData], room Size, dst *ProfilesData) (*ProfilesData, Size) {
	dst.prepare()
	s.hook(dst)
	return s.profiles.fill(cut, room, dst)
}

// Whoever cuts a request for a batch uses the batch's index without the lock. A batch that is
// sealed behind it meanwhile must not take that away; afterwards nobody needs it.
func TestIndexOfABatchIsKeptWhileARequestIsCutForIt(t *testing.T) {
	signal := &whileFilled{}
	opened := make(chan struct{})
	b, err := New[*ProfilesData](signal, Settings{
		Timeout: time.Hour, SendBatchSize: 10, SendBatchMaxSize: 10, SendBatchMaxBytes: 1 << 20, QueueSize: 1000, MaxConcurrentExports: 1,
	}, func(context.Context, *ProfilesData) error { <-opened; return nil })
	require.NoError(t, err)
	require.NoError(t, b.Start())
	defer func() {
		close(opened)
		require.NoError(t, b.Shutdown(t.Context()))
	}()

	send := func(profiles int) { require.NoError(t, b.Consume(t.Context(), NewProfilesData(withSamples(profiles)))) }
	send(10) // has the slot
	var filled []*ProfilesData
	signal.hook = func(dst *ProfilesData) {
		index := dst.index
		assert.NotNil(t, index)
		filled = append(filled, dst)
		send(10)
		assert.Same(t, index, dst.index)
	}
	send(3)
	send(8) // neither fits nor is what is there nearly full
	require.Len(t, filled, 1)
	require.Nil(t, filled[0].index)
	require.Equal(t, 10, b.only.line.front.items)
}

// withSamples returns as many profiles, with a sample each.
func withSamples(n int) pprofile.Profiles {
	pd := pprofile.NewProfiles()
	all := pd.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles()
	for range n {
		all.AppendEmpty().Samples().AppendEmpty().Values().Append(1)
	}
	return pd
}
