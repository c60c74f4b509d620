// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"sync"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageStyle string
	//go:embed page.js
	pageScript string
)

// contentPolicy lets the page run its own script and style, and fetch itself.
var contentPolicy = fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; img-src data:; "+
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'", hashOf(pageScript), hashOf(pageStyle))

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// servePage serves the state, as a page and as JSON.
func servePage(mux *http.ServeMux, options *Options) {
	// Nothing is kept in memory until somebody looks.
	page := sync.OnceValue(func() *template.Template { return template.Must(template.New("page").Parse(pageHTML)) })
	links := linksOf(options)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", contentPolicy)
		respond(w, "text/html; charset=utf-8", func(text io.Writer) error {
			return page().Execute(text, view{options.State(), links, template.CSS(pageStyle), template.JS(pageScript)})
		})
	})
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		respond(w, "application/json", func(text io.Writer) error {
			encoder := json.NewEncoder(text)
			encoder.SetIndent("", "  ")
			return encoder.Encode(options.State())
		})
	})
}

// linksOf are relative, so that the page may be behind a proxy.
func linksOf(options *Options) []string {
	links := []string{"metrics", "api/v1/status"}
	if options.Alive != nil {
		links = append(links, "healthz")
	}
	if options.Ready != nil {
		links = append(links, "readyz?verbose")
	}
	if options.Profiles {
		links = append(links, "debug/pprof/")
	}
	return links
}

// respond answers with what write writes, or with its error.
func respond(w http.ResponseWriter, contentType string, write func(io.Writer) error) {
	var text bytes.Buffer
	if err := write(&text); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(text.Bytes())
}

// view is what the page is made of.
type view struct {
	*State
	Links  []string
	Style  template.CSS
	Script template.JS
}
