package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// placeFlags are the flags of a check of a few places.
type placeFlags struct {
	agnos, inodes []string

	only *scrub.Places // nil for the whole filesystem
}

const (
	flagAGNo  = "agno"
	flagInode = "inode"
)

func (p *placeFlags) add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&p.agnos, flagAGNo, nil,
		"have the kernel check the metadata of allocation group `N`, and nothing else; repairs nothing")
	flags.StringSliceVar(&p.inodes, flagInode, nil,
		"have the kernel check inode `N`, and nothing else; repairs nothing")
}

// listed is a list of places that fits in a sentence.
func listed(places []string) string {
	const shown = 8
	if more := len(places) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(places[:shown], ", "), more)
	}
	return strings.Join(places, ", ")
}

// markPlacesCheckOnly refuses what a check of a few places never does.
func markPlacesCheckOnly(cmd *cobra.Command) {
	for _, place := range []string{flagAGNo, flagInode} {
		for _, other := range []string{"optimize", "repair", "accept-loss", "before-repair", "freeze"} {
			cmd.MarkFlagsMutuallyExclusive(place, other)
		}
	}
}

// parse reads the flags.
func (p *placeFlags) parse() error {
	var only scrub.Places
	for _, s := range p.agnos {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return usageErrorf("--%s: %q is no number of an allocation group", flagAGNo, s)
		}
		only.AGs = append(only.AGs, ioctl.AGNumber(n))
	}
	for _, s := range p.inodes {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil || n == 0 {
			return usageErrorf("--%s: %q is no inode number", flagInode, s)
		}
		only.Inodes = append(only.Inodes, scrub.InodeRef{Ino: ioctl.Ino(n)})
	}
	if len(only.AGs)+len(only.Inodes) > 0 {
		p.only = &only
	}
	return nil
}
