package status

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"
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
	page := sync.OnceValue(func() *template.Template {
		functions := template.FuncMap{"css": func() template.CSS { return template.CSS(pageStyle) }, "js": func() template.JS { return template.JS(pageScript) }}
		return template.Must(template.New("page").Funcs(functions).Parse(pageHTML))
	})
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
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		var text bytes.Buffer
		if err := page().Execute(&text, view{options.State(), links}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Security-Policy", contentPolicy)
		write(w, "text/html; charset=utf-8", text.Bytes())
	})
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		text, err := json.MarshalIndent(options.State(), "", "  ")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		write(w, "application/json", append(text, '\n'))
	})
}

func write(w http.ResponseWriter, contentType string, text []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(text)
}

// view is what the page is made of.
type view struct {
	*State
	Links []string
}

// Ago is how long before the state a time was.
func (s *State) Ago(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return s.Time.Sub(at).Round(time.Second).String() + " ago"
}

// Unwatched tells whether a watch is missing.
func (r *Resource) Unwatched() bool { return r.Watching != nil && !*r.Watching }

// Percent is how far the list is, -1 where that is not known.
func (r *Resource) Percent() int64 {
	if r.Total == nil || *r.Total == 0 {
		return -1
	}
	return min(100, 100*r.Read / *r.Total)
}

// Drops names the values that were left out or cut.
func (r *Resource) Drops() string {
	var text []string
	for _, drop := range []struct {
		n      uint64
		reason string
	}{
		{r.Dropped.Empty, "empty"}, {r.Dropped.Unsafe, "unsafe"}, {r.Dropped.LongName, "with a long name"},
		{r.Dropped.TooMany, "too many"}, {r.Truncated, "cut"},
	} {
		if drop.n > 0 {
			text = append(text, fmt.Sprint(drop.n, " ", drop.reason))
		}
	}
	return strings.Join(text, ", ")
}
