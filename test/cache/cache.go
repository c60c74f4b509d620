// SPDX-License-Identifier: Apache-2.0

// Package cache keeps the programs that tests need and that take long to get:
// each is built or downloaded once, for all runs of a user.
package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const lockInterval = 200 * time.Millisecond

// Entry is a directory of the cache.
type Entry struct {
	// Key names the directory. It has to change with all that its content
	// depends on, for an entry is never filled again.
	Key string
	// Holds says what is in it, for messages.
	Holds string
	// Fill puts everything into an empty directory, which becomes the entry
	// unless there is an error.
	Fill func(ctx context.Context, dir string) error
}

// Dir returns the directory of an entry, and fills it first if no run before
// did. A file lock keeps parallel runs from filling it twice; waiting for it
// ends with the context. An entry is there whole or not at all.
func Dir(ctx context.Context, e Entry) (string, error) {
	root, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache for %s: %w", e.Holds, err)
	}
	return e.in(ctx, filepath.Join(root, "labelstream"))
}

func (e Entry) in(ctx context.Context, root string) (string, error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("make a cache for %s: %w", e.Holds, err)
	}
	dir := filepath.Join(root, e.Key)
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("open the lock of the cache: %w", err)
	}
	defer lock.Close()
	if err := e.await(ctx, lock); err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, e.make(ctx, dir)
}

// make fills a directory beside dir, and gives it that name when it is whole.
func (e Entry) make(ctx context.Context, dir string) error {
	unfinished, err := os.MkdirTemp(filepath.Dir(dir), "build-")
	if err != nil {
		return fmt.Errorf("make a directory for %s: %w", e.Holds, err)
	}
	defer os.RemoveAll(unfinished)
	if err := e.Fill(ctx, unfinished); err != nil {
		return err
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return fmt.Errorf("put %s into the cache: %w", e.Holds, err)
	}
	return nil
}

// await waits until no other process holds the file's lock, which ends with its
// holder at the latest.
func (e Entry) await(ctx context.Context, file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(lockInterval):
		case <-ctx.Done():
			return fmt.Errorf("wait for another process that provides %s: %w", e.Holds, errors.Join(context.Cause(ctx), err))
		}
	}
}
