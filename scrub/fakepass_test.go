package scrub

import (
	"testing"
	"testing/synctest"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// withPass makes a whole pass over a model of a filesystem, in no time, and
// hands it to look.
func withPass(t *testing.T, model *ioctltest.Model, o Options, set func(*ioctltest.Kernel), look func(*testing.T, *pass)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fs, k := ioctltest.NewWithModel(t, model)
		if set != nil {
			set(k)
		}
		log := logrus.New()
		log.SetOutput(t.Output())
		o.NoLive, o.Log, o.StateDir = true, log, t.TempDir()
		r, err := newRun(t.Context(), fs, o)
		require.NoError(t, err)
		defer r.close()
		p, err := r.check(t.Context(), 1)
		require.NoError(t, err)
		defer p.close()
		look(t, p)
	})
}

// fakeTry makes a whole run over a model of a filesystem, in no time.
func fakeTry(t *testing.T, model *ioctltest.Model, o Options) (sum *Summary, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fs, _ := ioctltest.NewWithModel(t, model)
		if o.NoLive = true; o.StateDir == "" {
			o.StateDir = t.TempDir()
		}
		sum, err = Run(t.Context(), fs, o)
	})
	return sum, err
}

// fakeRun is fakeTry for a run that ends well; it returns the calls as well.
func fakeRun(t *testing.T, model *ioctltest.Model, o Options) (sum *Summary, calls []ioctltest.Call) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fs, k := ioctltest.NewWithModel(t, model)
		o.NoLive, o.StateDir = true, t.TempDir()
		var err error
		sum, err = Run(t.Context(), fs, o)
		require.NoError(t, err)
		calls = k.Calls()
	})
	return sum, calls
}
