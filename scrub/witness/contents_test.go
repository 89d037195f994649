package witness_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// The AGF counts as many blocks of the AG's own btrees and AGFL as the rmapbt has.
func TestOwnBlocksOnLoop(t *testing.T) {
	m := treeImage(t, "-b", "size=1024", "-d", "agcount=3")
	mounted(t, m, func(fs *ioctl.FS) {
		raw, err := os.Open(m.Image())
		require.NoError(t, err)
		defer raw.Close()
		geo := fs.Geometry()
		sector := int64(geo.SectorSize)
		for agno := range ioctl.AGNumber(geo.AGCount) {
			agf, agfl := make([]byte, sector), make([]byte, sector)
			at := int64(geo.AGByte(agno, 0))
			_, err := raw.ReadAt(agf, at+sector)
			require.NoError(t, err)
			_, err = raw.ReadAt(agfl, at+3*sector)
			require.NoError(t, err)
			self, ok := witness.ReadSelf(agno, agf, agfl)
			require.True(t, ok)
			var has uint64
			for recs, err := range witness.RmapView(t.Context(), fs, agno, ioctl.NewFSMapBuffer(512)) {
				require.NoError(t, err)
				for i := range recs {
					if recs[i].Owner == shadow.OwnerAG {
						has += uint64(recs[i].BlockCount)
					}
				}
			}
			assert.Equal(t, has, self.Own, "AG %d", agno)
			assert.Greater(t, has, uint64(10))
			_, ok = witness.ReadSelf(agno+1, agf, agfl)
			assert.False(t, ok, "another AG's headers")

			agi := make([]byte, sector)
			_, err = raw.ReadAt(agi, at+2*sector)
			require.NoError(t, err)
			read := self.ReadAGI(agi, true)
			require.NotNil(t, read)
			info, err := fs.AGGeometry(agno)
			require.NoError(t, err)
			assert.Equal(t, info.InodeCount, read.Count)
			assert.Equal(t, info.FreeInodes, read.Free)
			require.Len(t, self.Roots, 3)
			require.Len(t, read.Roots, 2)
			for _, root := range append(self.Roots, read.Roots...) {
				block := make([]byte, geo.BlockSize)
				where := geo.AGByte(agno, root.Block)
				_, err = raw.ReadAt(block, int64(where))
				require.NoError(t, err)
				assert.Equal(t, root.Kind, self.KindOf(block, where, geo.AGToIno(agno, root.Block, 0)))
				assert.Equal(t, root.Levels, uint32(block[5])+1)
			}
			assert.Len(t, self.ReadAGI(agi, false).Roots, 1)
			assert.Nil(t, self.ReadAGI(agf, true), "an AGF")

			length := geo.AGLength(agno)
			assert.True(t, witness.SoundAGFL(agf))
			assert.False(t, witness.LostAGF(agf, agno, length))
			assert.True(t, witness.LostAGF(agf, agno, length-1), "another length")
			assert.True(t, witness.LostAGF(agfl, agno, length), "no AGF")
			agf[60]++ // btreeblks
			assert.True(t, witness.LostAGF(agf, agno, length), "the checksum")
			agf[51]++ // flcount
			assert.False(t, witness.SoundAGFL(agf))
			copy(agf[40:52], []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
			assert.True(t, witness.SoundAGFL(agf), "nothing is on it")
			copy(agf[40:52], []byte{0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0})
			assert.False(t, witness.SoundAGFL(agf))
		}
	})
}
