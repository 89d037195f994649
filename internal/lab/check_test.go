package lab_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

// TestCheckImage: a sample says nothing twice in two ways; every class of
// damage shows, but for those that change no record; taken back it is gone.
func TestCheckImage(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	unseen := []lab.FaultClass{lab.FaultRmapKey, lab.FaultRmapCRC}
	path, _ := sampleImage(t, lab.SampleSpec{Seed: 3, Files: 100}, "-b", "size=1024", "-d", "agcount=4")
	img := openImage(t, path)
	clean := checksumFile(t, path)
	require.Empty(t, lab.CheckImage(img))
	for _, class := range slices.Concat(lab.FaultClasses(), lab.RandomFaultClasses()) {
		done, err := lab.Fault{Class: class, Seed: 1}.Inject(img)
		require.NoError(t, err, "%s", class)
		remains, err := done.Remains(img)
		require.NoError(t, err)
		assert.True(t, remains, "%s", done.Describe())
		if !slices.Contains(unseen, class) {
			assert.NotEmpty(t, lab.CheckImage(img), "%s", done.Describe())
		}
		require.NoError(t, done.Undo(img))
		remains, err = done.Remains(img)
		require.NoError(t, err)
		assert.False(t, remains, "%s", done.Describe())
	}
	assert.Empty(t, lab.CheckImage(img))
	assert.Equal(t, clean, checksumFile(t, path))
}

// TestObjects lists what a write can be lost to, and tells an object that has
// changed from one that has not.
func TestObjects(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	path, _ := sampleImage(t, lab.SampleSpec{Seed: 4, Files: 100}, "-d", "agcount=2")
	img := openImage(t, path)
	for _, class := range lab.LostClasses() {
		refs, err := img.Objects(class)
		require.NoError(t, err)
		require.NotEmpty(t, refs, class)
		for _, ref := range refs {
			assert.Equal(t, class, ref.Class)
			saved, err := lab.SaveObject(img, ref)
			require.NoError(t, err)
			_, err = saved.Compare(img)
			require.ErrorIs(t, err, lab.ErrUnchanged)
		}
	}
	_, err := img.Objects(lab.FaultRmapOwner)
	require.ErrorIs(t, err, lab.ErrUnknownClass)

	refs, err := img.Objects(lab.FaultLostDinode)
	require.NoError(t, err)
	saved, err := lab.SaveObject(img, refs[len(refs)-1])
	require.NoError(t, err)
	require.NoError(t, img.UpdateInode(saved.Ref.Ino, func(core *lab.DinodeCore) { core.NBlocks += 7 }))
	would, err := saved.Compare(img)
	require.NoError(t, err)
	require.Len(t, would.Edits, 1)
	done, err := saved.Restore(img)
	require.NoError(t, err)
	assert.Equal(t, would.Edits, done.Edits)
}
