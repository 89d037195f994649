package ioctl_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

func TestFeatureNames(t *testing.T) {
	for _, f := range ioctl.AllFeatures() {
		got, ok := ioctl.ParseFeature(f.String())
		assert.True(t, ok)
		assert.Equal(t, f, got)
	}
	_, ok := ioctl.ParseFeature("nonsense")
	assert.False(t, ok)
}

func TestFeaturesOfAFullKernel(t *testing.T) {
	fs, k := ioctltest.New(t)
	missing := map[ioctl.Feature]bool{ioctl.FeatureMetadir: true, ioctl.FeatureRTGroups: true, ioctl.FeatureZoned: true}
	for _, f := range ioctl.AllFeatures() {
		if missing[f] {
			require.EqualError(t, fs.Features().Check(f), f.String()+" is not supported: this filesystem was made without it")
			continue
		}
		require.NoError(t, fs.Features().Check(f), "%s", f)
		assert.True(t, fs.Features().Has(f))
	}
	require.ErrorIs(t, fs.Features().Check(200), unix.EINVAL)

	// All of that is remembered.
	k.ResetCalls()
	for _, f := range ioctl.AllFeatures() {
		_ = fs.Features().Check(f)
	}
	assert.Empty(t, k.Calls())
	k.Update(func(m *ioctltest.Model) {
		m.Geometry.RGCount, m.Geometry.Flags = 2, m.Geometry.Flags|ioctl.FlagMetadir|ioctl.FlagZoned
	})
	other, err := ioctl.New(k, "/other")
	require.NoError(t, err)
	defer other.Close()
	for f := range missing {
		require.NoError(t, other.Features().Check(f), "%s", f)
	}
}

// What cannot be told now is asked again.
func TestUncertainAnswersAreNotRemembered(t *testing.T) {
	fs, k := ioctltest.New(t)
	for _, errno := range []unix.Errno{unix.EPERM, unix.ESHUTDOWN, unix.EROFS, unix.ENOMEM, unix.ENOTRECOVERABLE} {
		k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) { return 0, errno }
		require.ErrorIs(t, fs.Features().Check(ioctl.FeatureScrub), errno)
		require.ErrorIs(t, fs.Features().Check(ioctl.FeatureRepair), errno)
		require.ErrorIs(t, fs.Features().Check(ioctl.FeatureForceRebuild), errno)
		require.ErrorIs(t, fs.Features().ScrubType(ioctl.ScrubTypeAGF), errno)
	}
	k.OnScrub = nil
	require.NoError(t, fs.Features().Check(ioctl.FeatureForceRebuild))
	require.NoError(t, fs.Features().Check(ioctl.FeatureScrub))
}

// The answers to a repair of nothing, by kernel. Linux 6.6 to 6.13 without repair say that none was needed.
func TestRepairProbe(t *testing.T) {
	type answer struct {
		flags ioctl.ScrubFlags
		errno unix.Errno
	}
	none := ioctl.ScrubNoRepairNeeded
	for name, test := range map[string]struct {
		plain, forced answer
		repair, force string // what is missing, if anything
	}{
		"7.2 with repair":      {answer{}, answer{}, "", ""},
		"7.2 without repair":   {answer{errno: unix.EOPNOTSUPP}, answer{errno: unix.EOPNOTSUPP}, "the kernel is built without CONFIG_XFS_ONLINE_REPAIR", "the kernel is built without CONFIG_XFS_ONLINE_REPAIR"},
		"6.12 with repair":     {answer{flags: none}, answer{}, "", ""},
		"6.12 without repair":  {answer{flags: none}, answer{flags: none}, "the kernel is built without CONFIG_XFS_ONLINE_REPAIR", "the kernel is built without CONFIG_XFS_ONLINE_REPAIR"},
		"6.1":                  {answer{flags: none}, answer{errno: unix.EINVAL}, "this kernel's repair is too old", "this kernel's repair is too old"},
		"repair without force": {answer{}, answer{errno: unix.EINVAL}, "", "forced rebuild is not supported by this kernel (needs Linux 6.6)"},
	} {
		t.Run(name, func(t *testing.T) {
			fs, k := ioctltest.New(t)
			k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
				assert.Equal(t, ioctl.ScrubTypeProbe, req.Type, "nothing real is repaired")
				if req.Flags.Has(ioctl.ScrubForceRebuild) {
					return test.forced.flags, test.forced.errno
				}
				return test.plain.flags, test.plain.errno
			}
			for f, want := range map[ioctl.Feature]string{ioctl.FeatureRepair: test.repair, ioctl.FeatureForceRebuild: test.force} {
				err := fs.Features().Check(f)
				if want == "" {
					require.NoError(t, err, "%s", f)
					continue
				}
				require.ErrorIs(t, err, ioctl.ErrNotSupported, "%s", f)
				require.ErrorContains(t, err, want, "%s", f)
			}
		})
	}
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { m.Geometry.Flags &^= ioctl.FlagV5 })
	_, err := fs.RefreshGeometry(t.Context())
	require.NoError(t, err)
	require.EqualError(t, fs.Features().Check(ioctl.FeatureRepair), "online repair is not supported: this filesystem has no checksums (V4)")
}

func TestFeaturesOfAPoorKernel(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.OnCall = func(c ioctltest.Call) unix.Errno {
		switch c.Op {
		case ioctltest.OpScrub, ioctltest.OpScrubVec, ioctltest.OpParents, ioctltest.OpHealthMonitor, ioctltest.OpVerifyMedia:
			return unix.ENOTTY
		}
		return 0
	}
	k.Update(func(m *ioctltest.Model) { m.Release = "6.1.0-37-amd64" })
	for f, since := range map[ioctl.Feature]string{
		ioctl.FeatureScrubVec: "6.10", ioctl.FeatureGetParents: "6.10", ioctl.FeatureHealthMonitor: "7.0",
		ioctl.FeatureVerifyMedia: "7.0", ioctl.FeatureMultigrainCtime: "6.13", ioctl.FeatureScrub: "4.15", ioctl.FeatureRepair: "4.15",
	} {
		err := fs.Features().Check(f)
		var unsupported *ioctl.UnsupportedFeatureError
		require.ErrorAs(t, err, &unsupported, "%s", f)
		assert.Equal(t, since, unsupported.MinimumVersion, "%s", f)
		assert.False(t, fs.Features().Has(f))
	}
}

func TestScrubTypeProbes(t *testing.T) {
	fs, k := ioctltest.New(t)
	for typ := range ioctl.ScrubTypeCount {
		err := fs.Features().ScrubType(typ)
		switch typ {
		case ioctl.ScrubTypeMETAPATH, ioctl.ScrubTypeRGSUPER, ioctl.ScrubTypeRTRMAPBT, ioctl.ScrubTypeRTREFCBT:
			require.ErrorIs(t, err, ioctl.ErrNoEntry, "%s", typ)
			require.NotErrorIs(t, err, ioctl.ErrNotSupported, "%s", typ)
		default:
			require.NoError(t, err, "%s", typ)
		}
	}
	require.ErrorIs(t, fs.Features().ScrubType(ioctl.ScrubTypeCount), ioctl.ErrNotSupported)
	for _, c := range k.Calls(ioctltest.OpScrub) {
		if c.Scrub.Type != ioctl.ScrubTypeProbe && c.Scrub.Type != ioctl.ScrubTypeMETAPATH {
			assert.NotZero(t, c.Scrub.Gen, "%s must not be scrubbed by a probe", c.Scrub.Type)
		}
	}
	k.ResetCalls()
	require.NoError(t, fs.Features().ScrubType(ioctl.ScrubTypeRMAPBT))
	require.Error(t, fs.Features().ScrubType(ioctl.ScrubTypeRGSUPER))
	assert.Empty(t, k.Calls())

	// On an old kernel, ENOENT means that it has never heard of the type.
	old, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { m.Release = "6.1.0" })
	k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) { return 0, unix.ENOENT }
	require.EqualError(t, old.Features().ScrubType(ioctl.ScrubTypeNLINKS), "scrub of nlinks is not supported by this kernel (needs Linux 6.9)")
	err := old.Features().ScrubType(ioctl.ScrubTypeFINOBT)
	require.ErrorIs(t, err, ioctl.ErrNoEntry)
	require.NotErrorIs(t, err, ioctl.ErrNotSupported)
}

// Without CAP_SYS_ADMIN there is an FS, but nearly nothing works, and that is said.
func TestFeaturesWithoutPrivilege(t *testing.T) {
	model := ioctltest.NewModel()
	model.NoAdmin = true
	fs, _ := ioctltest.NewWithModel(t, model)
	assert.False(t, fs.AtRoot())
	assert.Zero(t, fs.RootIno())
	for _, f := range []ioctl.Feature{
		ioctl.FeatureScrub, ioctl.FeatureScrubVec, ioctl.FeatureRepair, ioctl.FeatureRmapView, ioctl.FeatureBulkstat, ioctl.FeatureInumbers,
		ioctl.FeatureOpenByHandle, ioctl.FeatureHealthMonitor,
	} {
		require.ErrorIs(t, fs.Features().Check(f), ioctl.ErrPrivilege, "%s", f)
	}
	require.NoError(t, fs.Features().Check(ioctl.FeatureFSMap))
	_, err := fs.TryLock()
	require.ErrorIs(t, err, ioctl.ErrPrivilege)
}
