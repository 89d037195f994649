package scrub

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// standing is a run for which others are at work for that long.
func standing(t *testing.T, others, patience time.Duration, events *[]Event) *run {
	t.Helper()
	fs, _ := ioctltest.New(t)
	began := time.Now()
	return &run{fs: fs, opts: Options{
		Patience: patience, Events: func(e Event) { *events = append(*events, e) },
		Others: func(context.Context) []string {
			if time.Since(began) < others {
				return []string{"xfs_scrub, process 7"}
			}
			return nil
		},
	}}
}

func TestStandBack(t *testing.T) {
	for name, c := range map[string]struct {
		others, patience, took time.Duration
		err                    error
	}{
		"nobody":        {0, time.Minute, 0, nil},
		"done in time":  {7 * time.Second, time.Minute, 8 * time.Second, nil},
		"by default":    {9 * time.Minute, 0, 9 * time.Minute, nil},
		"too long":      {time.Hour, 5 * time.Second, 6 * time.Second, ErrForeign},
		"no patience":   {time.Hour, time.Nanosecond, time.Nanosecond, ErrForeign},
		"of no default": {time.Hour, 0, defaultPatience, ErrForeign},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var events []Event
				r := standing(t, c.others, c.patience, &events)
				began := time.Now()
				waited, err := r.standBack(t.Context())
				assert.Equal(t, c.took, time.Since(began))
				assert.Equal(t, c.others > 0, waited)
				if c.err != nil {
					require.ErrorIs(t, err, c.err)
					require.ErrorContains(t, err, "xfs_scrub, process 7")
				} else {
					require.NoError(t, err)
				}
				if c.others > 0 {
					assert.Len(t, events, 1, "said once")
				} else {
					assert.Empty(t, events)
				}
			})
		})
	}
}

func TestStandBackEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []Event
		r := standing(t, time.Hour, time.Hour, &events)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := r.standBack(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
