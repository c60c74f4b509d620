// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// writeArchive packs what a user of one platform unpacks: the binary, its licences and
// the completions. The parts of an image that only a container needs stay out.
func (r *release) writeArchive(platform v1.Platform) (err error) {
	name := product + "-" + r.version + "-" + platform.OS + "-" + platform.Architecture
	file, err := os.Create(filepath.Join(r.out, name+".tar.gz"))
	if err != nil {
		return err
	}
	zipped := gzip.NewWriter(file)
	archive := tar.NewWriter(zipped)
	defer func() { err = errors.Join(err, archive.Close(), zipped.Close(), file.Close()) }()
	tree := os.DirFS(r.tree(platform))
	for _, part := range []string{product, "LICENSE", "NOTICE", "licenses"} {
		if err := addTree(archive, tree, part, name, r.date); err != nil {
			return err
		}
	}
	return addTree(archive, os.DirFS(r.build), "completions", name, r.date)
}

// addTree adds what is below root of a file system to an archive, under a prefix. The
// files are root's, of one time and readable for all, in the order of their names.
func addTree(archive *tar.Writer, tree fs.FS, root, prefix string, date time.Time) error {
	return fs.WalkDir(tree, root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(prefix, name), Size: info.Size(), Mode: 0o644, ModTime: date}
		if info.Mode()&0o100 != 0 {
			header.Mode = 0o755
		}
		if entry.IsDir() {
			header.Typeflag, header.Size = tar.TypeDir, 0
			header.Name += "/"
			return archive.WriteHeader(header)
		}
		content, err := tree.Open(name)
		if err != nil {
			return err
		}
		defer content.Close()
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err = io.Copy(archive, content)
		return err
	})
}

// addFile adds one file to an archive.
func addFile(archive *tar.Writer, name, content string, date time.Time) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644, ModTime: date}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(archive, strings.NewReader(content))
	return err
}
