package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// profilePods are backfilled for the profile: as many as the promise is about.
	profilePods = 1_000_000
	// profileTop is how many functions of a profile are shown.
	profileTop = 20
)

// profileName is by which --only chooses it.
const profileName = "profile"

// profileResult is where the processor time of a backfill, and of reviews, goes.
type profileResult struct{ backfill, webhook profile }

// profile has the functions that took the most processor time, by their own
// and with what they call.
type profile struct{ flat, cumulative []profileRow }

// profileRow is a function; the times and shares are as pprof writes them.
type profileRow struct{ flat, flatShare, cumulative, cumulativeShare, function string }

// measureProfile profiles as many backfills and as many runs of reviews as are
// counted elsewhere, which makes the sampling finer.
func measureProfile(ctx context.Context, p programs, o options) (r *profileResult, err error) {
	directory, err := os.MkdirTemp("", "labelstream-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the profiles: %w", err)
	}
	defer os.RemoveAll(directory)
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, errors.New("it took longer than --timeout"))
	defer cancel()
	r = &profileResult{}
	files, err := profileBackfills(ctx, directory, p, o.runs)
	if err != nil {
		return nil, err
	}
	if r.backfill, err = readProfile(ctx, files); err != nil {
		return nil, err
	}
	file, err := profileWebhook(ctx, directory, p, o.webhookTime)
	if err != nil {
		return nil, err
	}
	r.webhook, err = readProfile(ctx, []string{file})
	return r, err
}

// profileBackfills gives the files of the profiles of so many backfills.
func profileBackfills(ctx context.Context, directory string, p programs, runs int) (files []string, err error) {
	kubeconfig := filepath.Join(directory, "kubeconfig")
	server, err := startHelper(ctx, p.synthetic, "--pods", strconv.Itoa(profilePods), "--kubeconfig", kubeconfig)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	sink, err := startHelper(ctx, p.sink)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sink.stop()) }()
	for range runs {
		profiles, err := profileBackfill(ctx, p.labelstream, kubeconfig, sink.url)
		if err != nil {
			return nil, err
		}
		for _, text := range profiles {
			file := filepath.Join(directory, fmt.Sprintf("backfill-%d", len(files)))
			if err := os.WriteFile(file, text, 0o600); err != nil {
				return nil, fmt.Errorf("keep a profile: %w", err)
			}
			files = append(files, file)
		}
	}
	return files, nil
}

// profileBackfill runs one backfill, and gives a profile of each whole second of
// it: one that the process did not live to the end of is lost.
func profileBackfill(ctx context.Context, program, kubeconfig, sink string) (profiles [][]byte, err error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, program, "--once", "--kubeconfig", kubeconfig)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	command.Env = append(cleanEnvironment(), "LABELSTREAM_DESTINATION="+sink+"/api/v1/write", "LABELSTREAM_LABELS_RESOURCES=pods",
		"LABELSTREAM_PPROF=true", "LABELSTREAM_STATUS_ADDRESS="+address)
	var errs tail
	command.Stderr = &errs
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start labelstream: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for {
		text, failure := fetch(ctx, profileURL("http://"+address, time.Second))
		if failure == nil {
			profiles = append(profiles, []byte(text))
			continue
		}
		select {
		case err := <-ended:
			if err == nil && len(profiles) == 0 {
				err = errors.New("it ended within a second")
			}
			if err != nil {
				err = fmt.Errorf("profile a backfill: %w\n%s", err, &errs)
			}
			return profiles, err
		case <-time.After(time.Millisecond):
			// It does not listen yet, or is about to end.
		}
	}
}

// profileURL asks a status server for a processor profile of whole seconds.
func profileURL(status string, duration time.Duration) string {
	return fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", status, int(duration.Seconds()))
}

// freeAddress is one of the loopback interface that nobody listens on: a
// backfill does not tell which it has found.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// profileWebhook gives the file of a profile of reviews over all connections.
func profileWebhook(ctx context.Context, directory string, p programs, duration time.Duration) (file string, err error) {
	s := &webhookServers{}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, directory, p, "LABELSTREAM_PPROF=true"); err != nil {
		return "", err
	}
	l := newLoad(s.productServer(), newReviewTemplate())
	defer l.close()
	if err := l.flatOut(ctx, warmTime); err != nil {
		return "", err
	}
	text := ""
	err = together(ctx, 2, func(ctx context.Context, i int) (err error) {
		if i == 0 {
			return l.flatOut(ctx, duration)
		}
		text, err = fetch(ctx, profileURL(s.daemon.status, duration))
		return err
	})
	if err != nil {
		return "", err
	}
	file = filepath.Join(directory, "webhook")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("keep a profile: %w", err)
	}
	return file, nil
}

// readProfile adds up profiles, and reads the functions at the top.
func readProfile(ctx context.Context, files []string) (p profile, err error) {
	if p.flat, err = pprofTop(ctx, "-flat", files); err != nil {
		return p, err
	}
	p.cumulative, err = pprofTop(ctx, "-cum", files)
	return p, err
}

func pprofTop(ctx context.Context, order string, files []string) ([]profileRow, error) {
	args := append([]string{"tool", "pprof", "-top", "-nodecount=" + strconv.Itoa(profileTop), order}, files...)
	command := exec.CommandContext(ctx, "go", args...)
	var errs tail
	command.Stderr = &errs
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("read a profile with go tool pprof: %w\n%s", err, &errs)
	}
	return parseTop(output)
}

// parseTop reads what pprof -top prints: lines about the profile, a headline,
// and a line for each function.
func parseTop(text []byte) ([]profileRow, error) {
	var rows []profileRow
	headline := true
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		switch {
		case headline:
			headline = strings.Join(fields, " ") != "flat flat% sum% cum cum%"
		case len(fields) < 6:
			return nil, fmt.Errorf("read a profile: pprof wrote %q instead of a function", line)
		default:
			rows = append(rows, profileRow{fields[0], fields[1], fields[3], fields[4], strings.Join(fields[5:], " ")})
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("read a profile: pprof wrote %q", text)
	}
	return rows, nil
}

const profileIntroduction = "Where the processor time goes, by Go's own profiler (`LABELSTREAM_PPROF=true`): of `labelstream --once` with a million pods and labels,\n" +
	"and of the daemon while reviews come over 32 connections. Flat is a function's own time, cum that with all it calls.\n"

// report is the profiles' part of the report.
func (r *profileResult) report() string {
	var text strings.Builder
	fmt.Fprintf(&text, "\n## Profiles\n\n%s", profileIntroduction)
	for _, table := range []struct {
		title string
		rows  []profileRow
	}{
		{"Backfill, by own time", r.backfill.flat},
		{"Backfill, by time with what is called", r.backfill.cumulative},
		{"Webhook, by own time", r.webhook.flat},
		{"Webhook, by time with what is called", r.webhook.cumulative},
	} {
		fmt.Fprintf(&text, "\n### %s\n\n| flat | | cum | | function |\n|--:|--:|--:|--:|---|\n", table.title)
		for _, row := range table.rows {
			fmt.Fprintf(&text, "| %s | %s | %s | %s | `%s` |\n", row.flat, row.flatShare, row.cumulative, row.cumulativeShare, row.function)
		}
	}
	return text.String()
}
