package live

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mapDone is what a kernel says of an event, but for the places of the fields:
// these are made up, so that nothing here can lean on those of one kernel.
const mapDone = `name: xfs_rmap_map_done
ID: 517
format:
	field:unsigned short common_type;	offset:2;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:0;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:dev_t dev;	offset:8;	size:4;	signed:0;
	field:enum xfs_group_type type;	offset:12;	size:4;	signed:0;
	field:xfs_agnumber_t agno;	offset:16;	size:4;	signed:0;
	field:xfs_agblock_t gbno;	offset:24;	size:4;	signed:0;
	field:xfs_extlen_t len;	offset:20;	size:4;	signed:0;
	field:uint64_t owner;	offset:32;	size:8;	signed:0;
	field:uint64_t offset;	offset:48;	size:8;	signed:0;
	field:unsigned long flags;	offset:40;	size:8;	signed:0;

print fmt: "dev %d:%d %sno 0x%x", REC->dev, __print_symbolic(REC->type, { 3, "ag" }, { 4, "rtg" }), REC->agno
`

// pageHeader is that of a 64-bit kernel with pages of 4 KiB.
const pageHeader = `	field: u64 timestamp;	offset:0;	size:8;	signed:0;
	field: local_t commit;	offset:8;	size:8;	signed:1;
	field: char overwrite;	offset:8;	size:1;	signed:1;
	field: char data;	offset:16;	size:4080;	signed:1;
`

func TestParseFormat(t *testing.T) {
	f, err := parseFormat(mapDone)
	require.NoError(t, err)
	assert.Equal(t, uint64(517), f.id)
	assert.Equal(t, field{offset: 2, size: 2}, f.fields["common_type"])
	assert.Equal(t, field{offset: 4, size: 4, signed: true}, f.fields["common_pid"])
	assert.Equal(t, field{offset: 24, size: 4}, f.fields["gbno"])
	assert.Equal(t, map[string]uint64{"ag": 3, "rtg": 4}, f.symbols)

	f, err = parseFormat("\tfield:const char * name[16];\toffset:8;\tsize:16;\tsigned:1;\n")
	require.NoError(t, err)
	assert.Equal(t, field{offset: 8, size: 16, signed: true}, f.fields["name"])
	_, err = f.number("name")
	require.ErrorIs(t, err, errFormat, "a field of 16 bytes is no number")
	_, err = f.number("gbno", "agbno")
	require.ErrorIs(t, err, errFormat)
}

func TestParseFormatRefuses(t *testing.T) {
	for _, text := range []string{
		"", "name: x\nID: 4\nformat:\n",
		"ID: 70000\nfield:int a;\toffset:0;\tsize:4;\tsigned:1;\n",
		"field:int a;\toffset:-1;\tsize:4;\tsigned:1;\n",
		"field:int a;\toffset:99999999;\tsize:4;\tsigned:1;\n",
		"field: ;\toffset:0;\tsize:4;\n",
	} {
		_, err := parseFormat(text)
		require.ErrorIs(t, err, errFormat, "%q", text)
	}
}

func TestFieldGet(t *testing.T) {
	b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, size := range []int{1, 2, 4, 8} {
		v, ok := field{size: size, signed: true}.get(b)
		assert.True(t, ok)
		assert.Equal(t, ^uint64(0), v, "size %d", size)
		v, ok = field{size: size}.get(b)
		assert.True(t, ok)
		assert.Equal(t, ^uint64(0)>>(64-8*size), v, "size %d", size)
		_, ok = field{offset: 8 - size + 1, size: size}.get(b)
		assert.False(t, ok, "size %d behind the end", size)
	}
	_, ok := field{size: 3}.get(b)
	assert.False(t, ok)
}

func FuzzParseFormat(f *testing.F) {
	f.Add(mapDone)
	f.Add(pageHeader)
	f.Fuzz(func(t *testing.T, text string) {
		form, err := parseFormat(text)
		if err != nil {
			require.ErrorIs(t, err, errFormat)
			return
		}
		for _, d := range form.fields {
			_, _ = d.get(make([]byte, 16))
		}
		if p, err := parsePageFormat(text); err == nil {
			_, _ = p.open(make([]byte, 64))
		}
	})
}
