// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
)

// packageChart packs the chart as helm package does, with the version and the image of
// this release.
func (r *release) packageChart(digest v1.Hash) error {
	chart, err := loader.LoadDir(r.chart)
	if err != nil {
		return err
	}
	chart.Metadata.Version = strings.TrimPrefix(r.version, "v")
	chart.Metadata.AppVersion = r.version
	image := map[string]string{"repository": r.image.Repository.Name(), "tag": r.image.TagStr()}
	if r.pushes() {
		image["digest"] = digest.String()
	}
	for _, file := range chart.Raw {
		if file.Name != chartutil.ValuesfileName {
			continue
		}
		for key, value := range image {
			if file.Data, err = setImage(file.Data, key, value); err != nil {
				return err
			}
		}
	}
	chart.StampModTimes(r.date)
	_, err = chartutil.Save(chart, r.out)
	return err
}

// setImage sets image.<key> in the text of a values.yaml, whose comments and order
// stay. The key must be there, directly below image.
func setImage(values []byte, key, value string) ([]byte, error) {
	line := regexp.MustCompile(`(?m)^(image:\n(?:(?:  .*)?\n)*?  ` + key + `:).*$`)
	found := line.FindSubmatchIndex(values)
	if found == nil {
		return nil, fmt.Errorf("values.yaml has no image.%s", key)
	}
	return bytes.Join([][]byte{values[:found[3]], []byte(" " + strconv.Quote(value)), values[found[1]:]}, nil), nil
}
