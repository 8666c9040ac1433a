package main

import (
	"os"
	"strings"
	"testing"

	"slim/internal/flatten"
)

// TestLineOnFullStandardOutput: the target was written, and no hint denies it.
func TestLineOnFullStandardOutput(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: appLayers}.build().layout("1").save(s, "in")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, flags := range [][]string{nil, {"--report", "-"}} {
		os.Remove("out.tar")
		stderr := s.stream()
		args := append(append([]string{"squash", "-q"}, flags...), "oci:in:1", "docker-archive:out.tar")
		code := run(args, stdio{in: s.stream(), out: full, err: stderr})
		_, statErr := os.Stat("out.tar")
		if text := s.read(stderr.Name()); code != 0 && statErr == nil && (strings.Contains(text, "nothing of it was left") || !strings.Contains(text, "the target was written")) {
			t.Errorf("%s: exit code %d, the target is there and standard error says\n%s", flags, code, text)
		}
	}
}

// TestTextOnFullStandardOutput: text that could not be written is a failure.
func TestTextOnFullStandardOutput(t *testing.T) {
	s := newSandbox(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"rules"}, {"rules", "apt"}, {"--help"}, {"squash", "--help"}} {
		stderr := s.stream()
		if code := run(args, stdio{in: s.stream(), out: full, err: stderr}); code != exitFailed {
			t.Errorf("slim %q: exit code %d", args, code)
		}
	}
}

// TestUnreplayableLayerIsNotHeld: a written layer that cannot be replayed is exit 3.
func TestUnreplayableLayerIsNotHeld(t *testing.T) {
	s := newSandbox(t)
	recipe{layers: richBase + richUpper}.build().layout("1").save(s, "in")
	c := spoiled{items: func(items []flatten.Item) []flatten.Item {
		for i, j := 0, len(items)-1; i < j; i, j = i+1, j-1 {
			items[i], items[j] = items[j], items[i]
		}
		return items
	}}
	if err := c.squash(s, []string{"--verify", "--base-layers", "1", "oci:in:1", "oci:out:1"}); exitCode(err) != exitNotHeld {
		t.Errorf("exit code %d: %v", exitCode(err), err)
	}
}

// TestConfigEscapes: values of the config are shown as they are.
func TestConfigEscapes(t *testing.T) {
	s := newSandbox(t)
	with := func(env string) recipe {
		return recipe{layers: "a=1", editConfig: func(c string) string {
			return strings.Replace(c, `"config":{`, `"config":{"Env":["`+env+`"],`, 1)
		}}
	}
	if o := diffOf(s, with("A=1"), with("A=<&>")); !strings.Contains(o.out, `"A=<&>"`) {
		t.Error(o.out)
	}
}
