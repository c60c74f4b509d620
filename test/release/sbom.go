// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/licensedetect/local"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// writeSBOM writes which modules a binary is made of, by the binary's own word, as a
// CycloneDX bill of materials.
func (r *release) writeSBOM(platform v1.Platform) error {
	path := filepath.Join(r.tree(platform), product)
	binary, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// It would warn of this module and of Go itself, which no module proxy has.
	quiet := zerolog.Nop()
	generator, err := bin.NewGenerator(path, bin.WithLogger(quiet), bin.WithLicenseDetector(local.NewDetector(quiet)),
		bin.WithIncludeStdlib(true), bin.WithVersionOverride(r.version),
		bin.WithShortPURLS(true)) // long ones have the platform of the process that writes them
	if err != nil {
		return err
	}
	bom, err := generator.Generate()
	if err != nil {
		return err
	}
	bom.Metadata.Timestamp = r.date.UTC().Format(time.RFC3339)
	bom.Metadata.Component.Licenses = &cdx.Licenses{{License: &cdx.License{ID: license}}}
	// A number that is the binary's, so that the next run has it, too.
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, binary).URN()
	var text bytes.Buffer
	encoder := cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON)
	if err := encoder.SetPretty(true).SetEscapeHTML(false).Encode(bom); err != nil {
		return err
	}
	return os.WriteFile(r.file(platform.OS+"-"+platform.Architecture+".cdx.json"), text.Bytes(), 0o644)
}
