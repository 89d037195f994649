package ioctl_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

func TestOpenIdentifiesTheFilesystem(t *testing.T) {
	fs, k := ioctltest.New(t)
	assert.Equal(t, ioctltest.Path, fs.Path())
	assert.True(t, fs.AtRoot())
	assert.Equal(t, ioctl.Ino(128), fs.RootIno())
	assert.Equal(t, uint64(0x10072c&0xfff00|0x7<<8|0x2c), fs.Device()&0xfffff)
	assert.Equal(t, [8]byte{9, 8, 7, 6, 5, 4, 3, 2}, fs.FSID())
	assert.Equal(t, "7.2.13", fs.Release())
	assert.Equal(t, 1, k.OpenFiles())

	require.NoError(t, fs.Close())
	require.NoError(t, fs.Close())
	assert.Zero(t, k.OpenFiles())
	_, err := fs.Counts()
	require.ErrorIs(t, err, ioctl.ErrClosed)
}
