package ioctl

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// Feature is something that a kernel or a filesystem may or may not have. Its String is stable: it
// goes into messages, options and JSON.
type Feature uint8

// The features. Those of the first group are asked of the kernel, the others of the filesystem.
const (
	FeatureScrub           Feature = iota // online scrub
	FeatureScrubVec                       // vectored scrub
	FeatureRepair                         // online repair, possible on this mount now
	FeatureForceRebuild                   // rebuilding what looks well
	FeatureFSMap                          // GETFSMAP
	FeatureRmapView                       // GETFSMAP shows the rmapbt to this process
	FeatureBmap                           // GETBMAPX
	FeatureBulkstat                       // BULKSTAT v5
	FeatureInumbers                       // INUMBERS v5
	FeatureOpenByHandle                   // opening by inode number and generation
	FeatureGetParents                     // GETPARENTS
	FeatureHealthMonitor                  // health events
	FeatureVerifyMedia                    // media verification
	FeatureMultigrainCtime                // every change after a statx gets a new ctime
	FeatureV5                             // checksums
	FeatureRmapbt                         // reverse mappings
	FeatureReflink                        // shared blocks
	FeatureParentPointers                 // parent pointers
	FeatureExchangeRange                  // exchange-range
	FeatureMetadir                        // metadata directories
	FeatureRTGroups                       // realtime groups
	FeatureZoned                          // zoned realtime device
	featureCount
)

var featureNames = []string{
	"kernel-scrub", "scrubv", "repair", "force-rebuild", "fsmap", "rmap-view", "bmap", "bulkstat", "inumbers",
	"open-by-handle", "getparents", "health-monitor", "verify-media", "multigrain-ctime", "v5", "rmapbt", "reflink", "parent",
	"exchange-range", "metadir", "rtgroups", "zoned",
}

// String returns the feature's name.
func (f Feature) String() string {
	return enumString(uint32(f), "feature", featureNames)
}

// AllFeatures returns all features, in order.
func AllFeatures() []Feature {
	all := make([]Feature, featureCount)
	for i := range all {
		all[i] = Feature(i)
	}
	return all
}

// ParseFeature finds a feature by its name.
func ParseFeature(name string) (Feature, bool) {
	for i, n := range featureNames {
		if n == name {
			return Feature(i), true
		}
	}
	return 0, false
}

// Features tells what this kernel can do with this filesystem, by trying it. What is certain is
// remembered for as long as the filesystem is open: that a feature is there, and that it is not. Other answers
// (no privilege, shut down, read-only, out of memory) are given once and asked for again.
type Features struct {
	fs *FS

	mu     sync.Mutex
	checks map[Feature]error
	types  map[ScrubType]error
}

// Features returns the probes of this filesystem.
func (fs *FS) Features() *Features {
	return fs.features
}

// Check returns nil if the feature is there, an error that has an [*UnsupportedFeatureError] in it if
// it is certain that it is not, and any other error when that cannot be told now.
func (f *Features) Check(feature Feature) error {
	f.mu.Lock()
	err, known := f.checks[feature]
	f.mu.Unlock()
	if known {
		return err
	}
	err = f.probe(feature)
	if certain(err) {
		f.mu.Lock()
		if f.checks == nil {
			f.checks = make(map[Feature]error)
		}
		f.checks[feature] = err
		f.mu.Unlock()
	}
	return err
}

// Has reports whether Check returns nil.
func (f *Features) Has(feature Feature) bool {
	return f.Check(feature) == nil
}

// ScrubType tells whether the kernel can scrub this type of metadata on this filesystem: nil, an error
// with an [*UnsupportedFeatureError] (the kernel does not know the type), [ErrNoEntry] (the filesystem has no such
// metadata), or an error that says nothing about it. Nothing is scrubbed. Quotas that are off are found out by the
// scrub only.
func (f *Features) ScrubType(t ScrubType) error {
	f.mu.Lock()
	err, known := f.types[t]
	f.mu.Unlock()
	if known {
		return err
	}
	err = f.probeType(t)
	if certain(err) || errors.Is(err, ErrNoEntry) {
		f.mu.Lock()
		if f.types == nil {
			f.types = make(map[ScrubType]error)
		}
		f.types[t] = err
		f.mu.Unlock()
	}
	return err
}

// certain says whether the answer of a probe will be the same next time.
func certain(err error) bool {
	return err == nil || errors.Is(err, ErrNotSupported)
}

// probe tries one feature.
func (f *Features) probe(feature Feature) error {
	fs := f.fs
	switch feature {
	case FeatureScrub:
		_, err := fs.Scrub(ScrubRequest{Type: ScrubTypeProbe})
		return err
	case FeatureScrubVec:
		return fs.ScrubVec(0, 0, 0, 0, nil)
	case FeatureRepair:
		return f.probeRepair()
	case FeatureForceRebuild:
		return f.probeForceRebuild()
	case FeatureFSMap:
		_, err := fs.FSMapCount(fs.FSMapKeys(0, 0))
		return err
	case FeatureRmapView:
		return f.probeRmapView()
	case FeatureBmap:
		return fs.Bmap(fs.fd, DataFork, NewBmapBuffer(1))
	case FeatureBulkstat:
		_, _, err := fs.lookupRoot()
		return err
	case FeatureInumbers:
		_, err := fs.Inumbers(&BulkRequest{}, NewInumbersBuffer(1))
		return err
	case FeatureOpenByHandle:
		return f.probeOpenByHandle()
	case FeatureGetParents:
		for _, err := range fs.ParentsFD(fs.fd) {
			return err
		}
		return nil
	case FeatureHealthMonitor:
		return f.probeRefusal(opHealthMonitor, abi.ReqHealthMonitor, unsafe.Pointer(&abi.HealthMonitor{Format: math.MaxUint8}))
	case FeatureVerifyMedia:
		return f.probeRefusal(opVerifyMedia, abi.ReqVerifyMedia, unsafe.Pointer(&abi.VerifyMedia{Pad: 1}))
	case FeatureMultigrainCtime:
		if !kernelAtLeast(fs.Release(), multigrainSince) {
			return &UnsupportedFeatureError{Feature: "multigrain timestamps", MinimumVersion: multigrainSince}
		}
		return nil
	}
	return f.probeGeometry(feature)
}

const multigrainSince = "6.13"

// probeGeometry answers what the superblock says.
func (f *Features) probeGeometry(feature Feature) error {
	var flag GeometryFlags
	switch feature {
	case FeatureV5:
		flag = FlagV5
	case FeatureRmapbt:
		flag = FlagRmapbt
	case FeatureReflink:
		flag = FlagReflink
	case FeatureParentPointers:
		flag = FlagParent
	case FeatureExchangeRange:
		flag = FlagExchangeRange
	case FeatureMetadir:
		flag = FlagMetadir
	case FeatureZoned:
		flag = FlagZoned
	case FeatureRTGroups:
		if f.fs.Geometry().RGCount > 0 {
			return nil
		}
		return madeWithout(feature)
	default:
		return fmt.Errorf("probe %s: %w", feature, unix.EINVAL)
	}
	if f.fs.Geometry().Has(flag) {
		return nil
	}
	return madeWithout(feature)
}

func madeWithout(feature Feature) error {
	return &UnsupportedFeatureError{Feature: feature.String(), Reason: "this filesystem was made without it"}
}

// probeRepair asks for a repair of nothing. Kernels from 6.6 to 6.13 that were built without repair answer
// that like those that have it; the forced form tells them apart.
func (f *Features) probeRepair() error {
	if !f.fs.Geometry().Has(FlagV5) {
		return &UnsupportedFeatureError{Feature: "online repair", Reason: "this filesystem has no checksums (V4)"}
	}
	flags, err := f.fs.Scrub(ScrubRequest{Type: ScrubTypeProbe, Flags: ScrubRepair})
	if err != nil {
		return f.repairProbeError(err)
	}
	if !flags.Has(ScrubNoRepairNeeded) {
		return nil
	}
	flags, err = f.fs.Scrub(ScrubRequest{Type: ScrubTypeProbe, Flags: ScrubRepair | ScrubForceRebuild})
	switch {
	case errors.Is(err, unix.EINVAL):
		return &UnsupportedFeatureError{Feature: "online repair", MinimumVersion: opRepair.since, Reason: "this kernel's repair is too old"}
	case err != nil:
		return f.repairProbeError(err)
	case flags.Has(ScrubNoRepairNeeded):
		return builtWithoutRepair()
	}
	return nil
}

func (f *Features) probeForceRebuild() error {
	if err := f.Check(FeatureRepair); err != nil {
		return err
	}
	_, err := f.fs.Scrub(ScrubRequest{Type: ScrubTypeProbe, Flags: ScrubRepair | ScrubForceRebuild})
	if errors.Is(err, unix.EINVAL) {
		return &UnsupportedFeatureError{Feature: "forced rebuild", MinimumVersion: "6.6"}
	}
	return f.repairProbeError(err)
}

// repairProbeError gives EOPNOTSUPP from a probe its meaning.
func (f *Features) repairProbeError(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return builtWithoutRepair()
	}
	return err
}

func builtWithoutRepair() error {
	return &UnsupportedFeatureError{
		Feature: "online repair", MinimumVersion: opRepair.since,
		Reason: "the kernel is built without " + opRepair.option,
	}
}

// probeRmapView looks for an owner where the first superblock is.
func (f *Features) probeRmapView() error {
	if err := f.Check(FeatureRmapbt); err != nil {
		return err
	}
	buf := NewFSMapBuffer(1)
	low, high := f.fs.FSMapKeys(0, 0)
	if err := f.fs.FSMap(low, high, buf); err != nil {
		return err
	}
	for i := range buf.Records() {
		if buf.Records()[i].Is(FSMapOwnerFS) {
			return nil
		}
	}
	return f.fs.fail(opFSMap, unix.EPERM)
}

func (f *Features) probeOpenByHandle() error {
	if !f.fs.rootOK {
		return f.fs.fail(opOpenByHandle, unix.EPERM)
	}
	fd, err := f.fs.OpenFD(f.fs.root, f.fs.rootGen)
	if err != nil {
		return err
	}
	f.fs.CloseFD(fd)
	return nil
}

// probeRefusal makes a call with an argument that a kernel that knows the call refuses with EINVAL.
func (f *Features) probeRefusal(op *operation, req uintptr, arg unsafe.Pointer) error {
	if err := f.fs.enter(); err != nil {
		return err
	}
	defer f.fs.leave()
	_, errno := f.fs.ioctl(f.fs.fd, req, arg)
	switch errno {
	case unix.EINVAL:
		return nil
	case 0:
		return fmt.Errorf("probe %s of %s: %w: a wrong argument was accepted", op.name, f.fs.path, ErrMalformed)
	}
	return f.fs.fail(op, errno)
}

// probeType sends a request whose object is wrong for the type. The kernel looks at the type first: ENOENT
// says that it does not know it or that the filesystem has no such metadata, EINVAL that all is well but for the object.
func (f *Features) probeType(t ScrubType) error {
	if t == ScrubTypeProbe {
		return f.Check(FeatureScrub)
	}
	req := ScrubRequest{Type: t, Gen: 1, AGNo: NullAGNumber}
	if t.Object() == ScrubObjectMetapath {
		// No object is wrong for this type until it runs; this one does nothing.
		req = ScrubRequest{Type: t, Ino: Ino(MetapathProbe)}
	}
	_, err := f.fs.Scrub(req)
	switch {
	case errors.Is(err, unix.EINVAL):
		return nil
	case errors.Is(err, unix.ENOENT) && f.kernelLacks(t):
		return &UnsupportedFeatureError{Feature: "scrub of " + t.String(), MinimumVersion: t.Since()}
	}
	return err
}

// kernelLacks says whether the kernel is too old for the type.
func (f *Features) kernelLacks(t ScrubType) bool {
	return t >= ScrubTypeCount || !kernelAtLeast(f.fs.Release(), t.Since())
}
