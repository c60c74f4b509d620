//go:build !linux

package memory

func releaseBinary() error { return nil }
