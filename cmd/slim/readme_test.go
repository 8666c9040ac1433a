package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestReadmeHelp holds the README to the help that the commands print.
func TestReadmeHelp(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"squash", "diff"} {
		var out bytes.Buffer
		if code := run([]string{command, "--help"}, stdio{os.Stdin, &out, &out}); code != exitDone {
			t.Fatalf("slim %s --help: exit code %d", command, code)
		}
		if !strings.Contains(string(readme), "$ slim "+command+" --help\n"+out.String()) {
			t.Errorf("README.md does not hold this help verbatim:\n%s", &out)
		}
	}
}
