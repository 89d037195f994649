// Package live listens to the kernel while it changes space metadata.
//
// It is not for deciding anything: it tells whether an observation of an AG
// was made while no chain of transactions was under way there.
package live
