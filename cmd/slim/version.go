package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"

	"slim/internal/image"
)

// version is set when a release is built.
var version = ""

// toolVersion returns the release, or what the Go toolchain recorded.
func toolVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func versionCommand(_ context.Context, args []string, s stdio) error {
	fs := pflag.NewFlagSet("version", pflag.ContinueOnError)
	helped, err := parseFlags(fs, args, s.out, "Usage:\n  slim version\n\nPrint the version of slim.\n")
	if helped || err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return &image.UsageError{Msg: fmt.Sprintf("slim version takes no arguments, got %q", fs.Args())}
	}
	_, err = fmt.Fprintf(s.out, "slim %s %s/%s %s\n", toolVersion(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}
