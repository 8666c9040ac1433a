package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestReadmeHelp holds the README to the help that the command prints.
func TestReadmeHelp(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := run([]string{"squash", "--help"}, stdio{os.Stdin, &out, &out}); code != exitDone {
		t.Fatalf("slim squash --help: exit code %d", code)
	}
	if !strings.Contains(string(readme), "$ slim squash --help\n"+out.String()) {
		t.Errorf("README.md does not hold this help verbatim:\n%s", &out)
	}
}
