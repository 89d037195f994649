package scrub

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// The trees of an AG are found below the filesystem, with all that the headers count
// of them; and none is where a block of it, or a root, is missing.
func TestTreesOnLoop(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	img := lab.NewLoopFS(t, lab.MkfsOptions{Args: []string{"-b", "size=1024", "-d", "agcount=2", "-m", "rmapbt=1,reflink=1"}})
	require.NoError(t, lab.Sample(img.Dir(), lab.SampleSpec{Files: 3000, Workers: 2}))
	require.NoError(t, img.Unmount())
	require.NoError(t, img.Mount())
	p, done := passOver(t, img.Dir())
	defer done()
	high, shared := uint32(0), 0
	for i := range p.groups {
		g := &p.groups[i]
		c := p.lookInto(g.agno)
		require.NotNil(t, c)
		defer c.close()
		own, whole := p.ownedBy(g, shadow.OwnerAG)
		require.True(t, whole)
		var trees []*agTree
		for _, root := range c.self.Roots {
			tree := c.findTree(root.Kind, own)
			require.NotNil(t, tree, root.Kind)
			assert.True(t, tree.at(root))
			assert.Equal(t, tree, c.treeAt(root))
			trees = append(trees, tree)
			high = max(high, tree.levels)
			if tree.levels > 1 {
				assert.Nil(t, c.findTree(root.Kind, without(own, tree.root)), "without its root")
				wrong := root
				wrong.Levels++
				assert.Nil(t, c.treeAt(wrong))
			}
			wrong := root
			wrong.Block = trees[0].root
			assert.Equal(t, root.Kind == "bnobt", c.treeAt(wrong) != nil, "the root of another tree")
		}
		assert.EqualValues(t, c.self.FreeBlocks, trees[0].sum)
		assert.EqualValues(t, c.self.FreeBlocks, trees[1].sum)
		assert.EqualValues(t, c.self.Longest, trees[0].longest)
		rmapbt := trees[2]
		rmapbt.leave(uint64(c.geo.AGLength(g.agno)))
		assert.EqualValues(t, c.self.FreeBlocks, rmapbt.gaps)
		assert.Equal(t, trees[0].digest, rmapbt.gapDigest)
		assert.Equal(t, trees[1].digest, rmapbt.gapDigest)
		n, err := p.ownBlocks(t.Context(), g, nil)
		require.NoError(t, err)
		assert.Equal(t, rmapbt.gapDigest, n.digest)
		assert.EqualValues(t, c.self.Longest, rmapbt.gap)
		assert.Equal(t, own, rmapbt.of(shadow.OwnerAG))
		assert.True(t, c.allIn(own, trees...))
		assert.False(t, c.allIn(own, trees[:2]...), "a block is in no tree")
		assert.False(t, c.allIn(without(own, trees[1].root), trees...), "a tree has a block of nobody's")
		assert.False(t, c.allIn(own, append(trees, trees[0])...), "a block is in two trees")
		c.self.AGFL = append(c.self.AGFL, trees[0].root)
		assert.False(t, c.allIn(own, trees...), "one is on the AGFL as well")
		c.self.AGFL = c.self.AGFL[:len(c.self.AGFL)-1]

		counts := rmapbt.of(shadow.OwnerRefcbt)
		assert.Len(t, counts, int(c.self.RefcountBlocks))
		refcountbt := c.findTree("refcountbt", counts)
		require.NotNil(t, refcountbt)
		assert.True(t, refcountbt.at(c.self.RefcountRoot))
		assert.True(t, rightCounts(refcountbt, rmapbt))
		assert.True(t, p.refcountRootRight(c, g))
		if n := len(refcountbt.refcounts); n > 0 {
			shared += n
			refcountbt.refcounts = refcountbt.refcounts[1:]
			assert.False(t, rightCounts(refcountbt, rmapbt), "one is missing")
		}
		assert.Empty(t, p.lostSpaceRoots(g), "all roots are right")
		assert.Empty(t, p.lostRefcountRoot(g))
		assert.Empty(t, p.lostInodeRoots(g))
	}
	assert.Greater(t, high, uint32(1))
	assert.Positive(t, shared)
}

func without(blocks []ioctl.AGBlock, b ioctl.AGBlock) (out []ioctl.AGBlock) {
	for _, o := range blocks {
		if o != b {
			out = append(out, o)
		}
	}
	return out
}

// Blocks that say anything else than a sound tree does are none.
func TestNoTree(t *testing.T) {
	c := &contents{geo: &ioctl.Geometry{}, self: &witness.Self{}}
	tree := &agTree{kind: "bnobt", blocks: map[ioctl.AGBlock]bool{7: true}}
	assert.False(t, c.descend(tree, 7, 0), "a block that is in it already")
	assert.True(t, tree.at(witness.Root{Kind: "bnobt"}))
	assert.False(t, tree.at(witness.Root{Kind: "bnobt", Levels: 1}))
}
