// Package campaign damages filesystems at random, one a case, lets scrubd (and
// for comparison xfs_scrub) repair a copy each inside a lab kernel of its own,
// and judges what became of them by what is known of the damage: which
// structure lies, what every file read before, and what the undamaged image
// reads.
//
// docs/campaign.md has what is drawn, how it is judged, and the fixed list of
// reasons for which holding a fault is right.
package campaign
