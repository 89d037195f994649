package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

func TestPlaceFlags(t *testing.T) {
	for _, c := range []struct {
		name          string
		agnos, inodes []string
		want          *scrub.Places
		err           string
	}{
		{"none", nil, nil, nil, ""},
		{"both", []string{"0", "3"}, []string{"131"}, &scrub.Places{
			AGs: []ioctl.AGNumber{0, 3}, Inodes: []scrub.InodeRef{{Ino: 131}},
		}, ""},
		{"no AG", []string{"-1"}, nil, nil, `--agno: "-1" is no number of an allocation group`},
		{"no AG of any filesystem", []string{"4294967296"}, nil, nil, `--agno: "4294967296" is no number of an allocation group`},
		{"no inode", nil, []string{"0"}, nil, `--inode: "0" is no inode number`},
		{"a path", nil, []string{"/x"}, nil, `--inode: "/x" is no inode number`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := placeFlags{agnos: c.agnos, inodes: c.inodes}
			err := p.parse()
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.want, p.only)
		})
	}
}

func TestPlacesAreOnlyChecked(t *testing.T) {
	for _, flag := range []string{"--optimize", "--repair", "--accept-loss", "--freeze"} {
		cmd := newRunCommand(streams{})
		cmd.SetArgs([]string{"--now", "--agno=0", flag, "/data"})
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		require.ErrorContains(t, cmd.Execute(), "none of the others can be", flag)
	}
}

func TestListed(t *testing.T) {
	assert.Equal(t, "a, b", listed([]string{"a", "b"}))
	assert.Equal(t, "1, 2, 3, 4, 5, 6, 7, 8 and 2 more", listed([]string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}))
}
