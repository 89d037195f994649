// Package soak runs scrubd without pause on a filesystem that writers of every
// kind change all the time, and says whether it ever cried wolf: a healthy
// filesystem gives no finding, no repair and exit status 0, however busy it is.
//
// The writers are seeded: what each one does depends on the seed and on its
// name alone (where the filesystem gets full, on the moment as well). Each of
// them knows what it wrote, and looks at the end whether that is what is there.
//
// [Run] works on the kernel that it runs on. labctl soak boots the lab kernel
// for it, or uses the machine's own.
package soak
