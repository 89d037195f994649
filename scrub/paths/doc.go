// Package paths finds the names of inodes.
//
// It is not for finding inodes by name, and no check relies on it: paths are
// for the people who read a report. A path that cannot be found is left out.
//
// Filesystems with parent pointers know the names of every file, and each inode
// is looked up by itself. On all others there is nothing to do but to walk the
// directories from the root, once for all inodes, until every name is found.
//
// Nothing but XFS is asked: other filesystems that are mounted on a directory
// are not entered, and do not hide what is below them.
package paths
