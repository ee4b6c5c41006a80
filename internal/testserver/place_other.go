//go:build !linux

package testserver

import (
	"errors"
	"testing"
)

// Disk is a small file system, which there is on Linux only.
type Disk struct{}

// StartDisk returns [errors.ErrUnsupported].
func StartDisk(int64) (*Disk, error) { return nil, errors.ErrUnsupported }

// NewDisk skips the test.
func NewDisk(t testing.TB, _ int64) *Disk {
	t.Helper()
	t.Skip("disks are made on Linux only")
	return nil
}

// Dir would be a directory on the disk.
func (*Disk) Dir() string { return "" }

// Fill would take the space that is left.
func (*Disk) Fill() error { return errors.ErrUnsupported }

// Free would give it back.
func (*Disk) Free() error { return errors.ErrUnsupported }

// ReadOnly would make the disk one that can only be read.
func (*Disk) ReadOnly(bool) error { return errors.ErrUnsupported }

// Close would remove the disk.
func (*Disk) Close() error { return errors.ErrUnsupported }
