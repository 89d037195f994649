package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/internal/lab"
)

// sampleOptions are the flags of labctl sample.
type sampleOptions struct {
	spec  lab.SampleSpec
	image string
	size  string
	mkfs  []string
	mount string
}

func newSampleCommand() *cobra.Command {
	var options sampleOptions
	cmd := &cobra.Command{
		Use:   "sample DIR | sample --image IMG",
		Short: "Fill an XFS filesystem with a varied tree",
		Long: "Fills the filesystem mounted at DIR, or makes an image, mounts and fills it: clones,\n" +
			"fragmented files, unwritten extents, large attributes, holes, hard links, directories\n" +
			"of every format and plain files. The same flags give the same contents.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runSample(cmd, options, args) },
	}
	flags := cmd.Flags()
	flags.Uint64Var(&options.spec.Seed, "seed", 1, "seed of all contents")
	flags.IntVar(&options.spec.Files, "files", 0, "plain files (default 500)")
	flags.BoolVar(&options.spec.SmallFiles, "small-files", false, "plain files of one block at most")
	flags.IntVar(&options.spec.Extents, "extents", 0, "further extents, in files of 2,000")
	flags.IntVar(&options.spec.Workers, "workers", 1, "files made at once; more than one makes the layout random")
	flags.BoolVar(&options.spec.NoReflink, "no-reflink", false, "no clones, for filesystems made with reflink=0")
	flags.StringVar(&options.image, "image", "", "make this image (replaced where it exists) and fill it")
	flags.StringVar(&options.size, "size", "1GiB", "size of the image")
	flags.StringArrayVar(&options.mkfs, "mkfs", nil, "arguments of mkfs.xfs, such as \"-d agcount=4\"")
	flags.StringVar(&options.mount, "mount", "", "leave the image mounted on this directory")
	return cmd
}

func runSample(cmd *cobra.Command, options sampleOptions, args []string) error {
	if (len(args) == 1) == (options.image != "") {
		return fmt.Errorf("name either a mounted directory or --image")
	}
	if options.image == "" {
		return lab.Sample(args[0], options.spec)
	}
	size, err := parseSize(options.size)
	if err != nil {
		return err
	}
	mkfs := lab.MkfsOptions{Size: size}
	for _, words := range options.mkfs {
		mkfs.Args = append(mkfs.Args, strings.Fields(words)...)
	}
	if err := lab.MakeImage(cmd.Context(), options.image, mkfs); err != nil {
		return err
	}
	return fillImage(options)
}

// fillImage mounts the new image and fills it. It stays mounted where the
// caller has named a mount point.
func fillImage(options sampleOptions) (err error) {
	dir := options.mount
	if dir == "" {
		tmp, err := os.MkdirTemp("", "labctl-")
		if err != nil {
			return fmt.Errorf("make a mount point: %w", err)
		}
		defer func() { _ = os.Remove(tmp) }() // only the empty mount point is left in it
		dir = filepath.Join(tmp, "mnt")
		defer func() { _ = os.Remove(dir) }()
	}
	fs, err := lab.OpenLoopFS(options.image, dir)
	if err != nil {
		return err
	}
	if err := fs.Mount(); err != nil {
		return err
	}
	defer func() {
		if options.mount == "" || err != nil {
			if cerr := fs.Close(); err == nil {
				err = cerr
			}
		}
	}()
	return lab.Sample(dir, options.spec)
}

// parseSize reads a size in bytes. As in mkfs.xfs, a bare letter is a power of
// 1,024.
func parseSize(s string) (int64, error) {
	if s != "" && strings.ContainsRune("kKmMgGtT", rune(s[len(s)-1])) {
		s += "iB"
	}
	n, err := humanize.ParseBytes(s)
	if err != nil {
		return 0, fmt.Errorf("read the size %q: %w", s, err)
	}
	return int64(n), nil
}
