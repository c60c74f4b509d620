//go:build !linux

package memory

func releaseStartup() error { return nil }
