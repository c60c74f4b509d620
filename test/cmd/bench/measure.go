package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// result holds the counted runs of a scenario, in the order in which they ran:
// the i-th of the product and the i-th of the reference are a pair.
type result struct {
	scenario           scenario
	product, reference []usage
}

// bench is a scenario with its servers up.
type bench struct {
	scenario   scenario
	programs   programs
	options    options
	kubeconfig string
	sink       string // URL
}

// measure starts the scenario's servers, runs product and reference in turn
// against them, and stops them.
func measure(ctx context.Context, s scenario, p programs, o options) (r result, err error) {
	directory, err := os.MkdirTemp("", "labelstream-bench-")
	if err != nil {
		return r, fmt.Errorf("make a directory for the kubeconfig: %w", err)
	}
	defer os.RemoveAll(directory)
	b := bench{scenario: s, programs: p, options: o, kubeconfig: filepath.Join(directory, "kubeconfig")}
	server, err := startHelper(ctx, p.synthetic, append([]string{"--pods", strconv.Itoa(s.pods), "--kubeconfig", b.kubeconfig}, s.server...)...)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	sink, err := startHelper(ctx, p.sink, s.sink...)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, sink.stop()) }()
	b.sink = sink.url
	return b.pairs(ctx)
}

// pairs runs both once to warm up the servers and the machine's caches, then
// as often as asked for.
func (b bench) pairs(ctx context.Context) (result, error) {
	r := result{scenario: b.scenario}
	for i := range b.options.runs + 1 {
		if !b.options.referenceOnly {
			product, err := b.runProduct(ctx)
			if err != nil {
				return r, err
			}
			if i > 0 {
				r.product = append(r.product, product)
			}
		}
		if b.scenario.alone {
			continue
		}
		reference, err := b.runReference(ctx)
		if err != nil {
			return r, err
		}
		if i > 0 {
			r.reference = append(r.reference, reference)
		}
	}
	return r, nil
}

// runProduct backfills once and checks that everything has arrived, once.
func (b bench) runProduct(ctx context.Context) (usage, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.options.timeout, errors.New("it took longer than --timeout"))
	defer cancel()
	before, err := fetchTotals(ctx, b.sink)
	if err != nil {
		return usage{}, err
	}
	environment := append([]string{
		"LABELSTREAM_DESTINATION=" + b.sink + "/api/v1/write",
		"LABELSTREAM_LABELS_RESOURCES=pods",
		"LABELSTREAM_STATUS_ADDRESS=127.0.0.1:0",
	}, b.scenario.environment...)
	u, _, err := launchProcess(ctx, environment, b.programs.labelstream, "--once", "--kubeconfig", b.kubeconfig)
	if err != nil {
		return u, err
	}
	after, err := fetchTotals(ctx, b.sink)
	if err != nil {
		return u, err
	}
	want := int64(b.scenario.pods * b.scenario.seriesPerPod)
	if series, samples := after.Series-before.Series, after.Samples-before.Samples; series != want || samples != want {
		return u, fmt.Errorf("labelstream delivered %d series with %d samples, the server has %d", series, samples, want)
	}
	return u, nil
}

// runReference lists once and checks the number of objects.
func (b bench) runReference(ctx context.Context) (usage, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.options.timeout, errors.New("it took longer than --timeout"))
	defer cancel()
	u, output, err := launchProcess(ctx, nil, b.programs.metalist, "--kubeconfig", b.kubeconfig)
	if err != nil {
		return u, err
	}
	if got, want := strings.TrimSpace(output), strconv.Itoa(b.scenario.pods); got != want {
		return u, fmt.Errorf("the reference read %q objects, the server has %s", got, want)
	}
	return u, nil
}

// totals are what the sink counts.
type totals struct{ Series, Samples int64 }

func fetchTotals(ctx context.Context, sink string) (totals, error) {
	text, err := fetch(ctx, sink+"/totals")
	if err != nil {
		return totals{}, err
	}
	var t totals
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return totals{}, fmt.Errorf("read the totals of the sink: %w", err)
	}
	return t, nil
}

// fetch gets a document, post makes something happen.
func fetch(ctx context.Context, url string) (string, error) { return ask(ctx, http.MethodGet, url) }

func post(ctx context.Context, url string) error {
	_, err := ask(ctx, http.MethodPost, url)
	return err
}

func ask(ctx context.Context, method, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, url, err)
	}
	// A connection of its own, so that none is left behind.
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, url, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("%s %s: read the answer: %w", method, url, err)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s: it answered %s: %s", method, url, response.Status, text)
	}
	return string(text), nil
}
