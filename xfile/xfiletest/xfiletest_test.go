package xfiletest

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/xfile"
)

func TestMain(m *testing.M) { Main(m) }

// leaky is a package whose tests return code and leave a file open or not.
type leaky struct {
	code int
	open func()
}

func (l leaky) Run() int {
	if l.open != nil {
		l.open()
	}
	return l.code
}

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.Equal(t, 0, run(leaky{}, &out))
	require.Equal(t, 2, run(leaky{code: 2}, &out))
	require.Empty(t, out.String())

	var f *xfile.File
	defer func() { require.NoError(t, f.Close()) }()
	open := func() {
		var err error
		f, err = xfile.New(xfile.Options{Name: "left"})
		require.NoError(t, err)
	}
	require.Equal(t, 1, run(leaky{open: open}, &out))
	require.Equal(t, "xfiletest: 1 xfiles were left open\n", out.String())
	require.Equal(t, 2, run(leaky{code: 2}, &out), "failed tests have a better reason")
}
