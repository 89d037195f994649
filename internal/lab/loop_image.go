package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// MakeImage creates a sparse file and formats it. Options that turn rmapbt and
// reflink on are added unless opts.Args speak about them: old mkfs.xfs versions leave
// rmapbt off.
func MakeImage(ctx context.Context, image string, opts MkfsOptions) error {
	size := opts.Size
	if size == 0 {
		size = DefaultLoopSize
	}
	f, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make image: %w", err)
	}
	err = errors.Join(f.Truncate(size), f.Close())
	if err != nil {
		return fmt.Errorf("make image of %d bytes: %w", size, err)
	}
	var realtime []string
	if opts.RTSize > 0 {
		rt := RTImage(image)
		if err := errors.Join(os.WriteFile(rt, nil, 0o600), os.Truncate(rt, opts.RTSize)); err != nil {
			return fmt.Errorf("make a realtime device of %d bytes: %w", opts.RTSize, err)
		}
		realtime = []string{"-r", "rtdev=" + rt}
	}
	mkfs := opts.Binary
	if mkfs == "" {
		mkfs = "mkfs.xfs"
	}
	args := append([]string{"-q", "-f"}, mkfsFeatures(opts.Args)...)
	args = append(append(append(args, realtime...), opts.Args...), image)
	cmd := exec.CommandContext(ctx, mkfs, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// mkfsFeatures returns the -m options to add to args. mkfs.xfs refuses an
// option that is given twice, so what the caller decides is left alone.
func mkfsFeatures(args []string) []string {
	said := make(map[string]string)
	for i, a := range args {
		list, ok := strings.CutPrefix(a, "-m")
		if !ok {
			continue
		}
		if list == "" && i+1 < len(args) {
			list = args[i+1]
		}
		for kv := range strings.SplitSeq(list, ",") {
			key, value, _ := strings.Cut(strings.TrimSpace(kv), "=")
			said[key] = value
		}
	}
	var add []string
	for _, key := range []string{"rmapbt", "reflink"} {
		// A V4 filesystem (crc=0) has neither.
		if _, ok := said[key]; !ok && said["crc"] != "0" {
			add = append(add, "-m", key+"=1")
		}
	}
	return add
}

// copyChunk is the unit in which CopyImage looks for zeros.
const copyChunk = 64 << 10

// CopyImage copies an image and keeps it sparse. The source must not change
// meanwhile: unmounted, or frozen.
func CopyImage(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copy image: %w", err)
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return fmt.Errorf("copy image: %w", err)
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy image: %w", err)
	}
	defer func() {
		if cerr := out.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("copy image: %w", cerr)
		}
	}()
	if err := out.Truncate(st.Size()); err != nil {
		return fmt.Errorf("copy image: %w", err)
	}
	buf, zeros := make([]byte, copyChunk), make([]byte, copyChunk)
	for pos := int64(0); pos < st.Size(); {
		data, err := unix.Seek(int(in.Fd()), pos, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		} else if err == nil {
			pos = data
		} // else this filesystem does not know holes: the zero test below does
		n, err := in.ReadAt(buf[:min(copyChunk, st.Size()-pos)], pos)
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("copy image %s at %d: %w", src, pos, err)
		}
		if !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := out.WriteAt(buf[:n], pos); err != nil {
				return fmt.Errorf("copy image to %s at %d: %w", dst, pos, err)
			}
		}
		pos += int64(n)
	}
	return nil
}
