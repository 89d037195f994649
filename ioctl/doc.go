// Package ioctl is the only room that talks to the kernel about XFS.
package ioctl
