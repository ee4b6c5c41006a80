//go:build !unix

package tokencache

import "io/fs"

const openFlags = 0

func checkAccess(fs.FileInfo) error { return nil }

func syncDirectory(string) {}
