package config

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestBytes(t *testing.T) {
	for value, want := range map[string]Bytes{
		"0":                   0,
		"1048576":             1 << 20,
		"512KiB":              512 << 10,
		"512Ki":               512 << 10,
		"1MiB":                1 << 20,
		" 1 MiB ":             1 << 20,
		"2Mi":                 2 << 20,
		"1MB":                 1e6,
		"64KB":                64e3,
		"7B":                  7,
		"9223372036854775807": math.MaxInt64,
		"8796093022207MiB":    8796093022207 << 20,
	} {
		var got Bytes
		if err := got.Decode(value); err != nil || got != want {
			t.Errorf("Decode(%q) = %d, %v, want %d", value, got, err, want)
		}
	}
	for _, value := range []string{
		"", "MiB", "-1", "+1", "1.5MiB", "1e3", "0x10", "1mib", "1M", "1KK", "1MiBB", "1GiB", "1iB", "1 2", "1_000",
		"9223372036854775808", "8796093022208MiB", "99999999999999999999",
	} {
		got := Bytes(42)
		if err := got.Decode(value); err == nil || got != 42 {
			t.Errorf("Decode(%q) = %d, %v, want an error and no change", value, got, err)
		}
	}
}

// FuzzBytes checks that a size is read as the number before its unit.
func FuzzBytes(f *testing.F) {
	for _, value := range []string{"1MiB", "512 KB", "7", "8796093022208Mi", "-1B"} {
		f.Add(value)
	}
	units := map[string]int{"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "KiB": 1 << 10, "Ki": 1 << 10, "MiB": 1 << 20, "Mi": 1 << 20}
	f.Fuzz(func(t *testing.T, value string) {
		var got Bytes
		if err := got.Decode(value); err != nil {
			return
		}
		text := strings.TrimSpace(value)
		unit := strings.TrimLeft(text, "0123456789")
		n, err := strconv.Atoi(text[:len(text)-len(unit)])
		factor, known := units[strings.TrimSpace(unit)]
		if err != nil || !known || int(got)/factor != n || int(got)%factor != 0 {
			t.Errorf("Decode(%q) = %d, want %d × %d", value, got, n, factor)
		}
	})
}

func TestURLRedacted(t *testing.T) {
	for value, want := range map[string]string{
		"":                                      "",
		"http://collector":                      "http://collector",
		"HTTPS://Collector/a":                   "https://Collector/a",
		"http://[::1]:9090/w":                   "http://[::1]:9090/w",
		"http://h/a%2Fb?t=x#f":                  "http://h/a%2Fb",
		"http://user:pw@h:1/w?token=x&tenant=y": "http://h:1/w",
	} {
		var u URL
		if err := u.Decode(value); err != nil {
			t.Errorf("Decode(%q): %v", value, err)
		}
		if got := u.Redacted(); got != want {
			t.Errorf("Redacted of %q = %q, want %q", value, got, want)
		}
	}
}

// FuzzLoad checks that whatever the values, Load gives either settings or an
// error whose every line begins with a variable, never shows a password, and
// leaves the environment as it was.
func FuzzLoad(f *testing.F) {
	f.Add("http", "user", "@host", ".*,[,]", "a=b,c=d", "pods,*.apps", "a\nb", "1MiB")
	f.Add("ftp", "a/", "b@c?d#e", "(", "__a=\xff", "*", "A,a,a", "-1")
	f.Add("", "", "", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, scheme, user, rest, filters, pairs, resources, namespaces, number string) {
		const password = "correct-horse"
		settings := map[string]string{
			"DESTINATION":        scheme + "://" + user + ":" + password + "@" + rest,
			"LABELS_FILTERS":     filters,
			"EXTERNAL_LABELS":    pairs,
			"LABELS_RESOURCES":   resources,
			"NAMESPACES":         namespaces,
			"NAMESPACES_EXCLUDE": pairs,
			"METRIC_PREFIX":      scheme,
			"MAX_BYTES_PER_SEND": number,
			"BATCH_SIZE":         number,
			"SEND_INTERVAL":      number,
			"STATUS_ADDRESS":     rest,
		}
		for name, value := range settings {
			settings[name] = strings.ReplaceAll(value, "\x00", "0") // no environment holds it
		}
		setenv(t, settings)
		before := os.Environ()
		cfg, err := Load(false)
		if (cfg == nil) == (err == nil) {
			t.Fatalf("Load = %v, %v, want one of them", cfg, err)
		}
		if after := os.Environ(); !slices.Equal(sorted(before), sorted(after)) {
			t.Errorf("the environment was\n%q, and is\n%q", before, after)
		}
		if err == nil {
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasPrefix(line, "LABELSTREAM_") || strings.Contains(line, password) {
				t.Errorf("%q is not a variable and what is wrong with it, without the password", line)
			}
		}
	})
}

func sorted(texts []string) []string { return slices.Sorted(slices.Values(texts)) }
