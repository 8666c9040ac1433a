package main

import (
	"regexp"
	"strings"
	"testing"
)

// oddMembers are what a decoder and encoder would lose or change.
const oddMembers = ` "author" : "é <&> \u00e9", "x-unknown":{"b":1,"a":[ 1 , 2.50 ]},"x-large":9007199254740993,"x-exp":1e2,"Memory":12345678901234567890,
 "container_config":{"Healthcheck":{"Test":["CMD","true"],"StartInterval":5000000001}},"x-null":null,`

var rewritten = regexp.MustCompile(`"diff_ids":\[[^\]]*\]|"history":\[.*\]`)

func TestConfigSurvives(t *testing.T) {
	for _, flags := range [][]string{nil, {"--base-layers", "1"}, {"--history", "drop"}, {"--base-layers=2", "--history=drop"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			app := recipe{layers: appLayers, members: oddMembers, editConfig: func(c string) string {
				return strings.Replace(c, `"config":{`, `"config":{"Healthcheck":{"Test":["CMD","true"],"StartInterval":9007199254740993},"Volumes":null,"ArgsEscaped":true,"OnBuild":null,"x":{},`, 1)
			}}.build()
			source := h.push(app, "app", "1")
			s.done(append(append([]string{"squash"}, flags...), source, h.ref("app:slim"))...)
			got := h.pull("app", "slim")
			if a, b := rewritten.ReplaceAllString(string(app.config), "…"), rewritten.ReplaceAllString(string(got.config), "…"); a != b {
				t.Errorf("the config became\n%s\nfrom\n%s", b, a)
			}
		})
	}
}

func TestHistory(t *testing.T) {
	const usual = `[{"created_by":"1"},{"created_by":"ENV","empty_layer":true},{"created_by":"2"},{"created_by":"3","x":1},{"created_by":"CMD","empty_layer":true}]`
	for _, c := range []struct {
		name, history string
		flags         []string
		want          string // created_by of the entries, in brackets those without layer
		note          string
	}{
		{"kept", usual, nil, "(1) (ENV) (2) (3) (CMD) slim squash", ""},
		{"dropped", usual, []string{"--history", "drop"}, "slim squash", ""},
		{"base", usual, []string{"--base", "HUB/base:1"}, "1 (ENV) (2) (3) (CMD) slim squash", ""},
		{"base, dropped", usual, []string{"--base", "HUB/base:1", "--history", "drop"}, "1 (ENV) slim squash", ""},
		{"base-layers, dropped", usual, []string{"--base-layers", "1", "--history", "drop"}, "1 slim squash", ""},
		{"absent", "null", nil, "slim squash", ""},
		{"absent, base", "null", []string{"--base-layers", "1"}, "slim: layer DIFFID slim squash", "the source has no history"},
		{"too many", `[{"created_by":"1"},{"created_by":"2"},{"created_by":"3"},{"created_by":"4"}]`, nil,
			"(1) (2) (3) (4) slim squash", "entries for 4 layers and the image has 3"},
		{"too few", `[{"created_by":"1"}]`, []string{"--base-layers", "1"}, "slim: layer DIFFID (1) slim squash", "entries for 1 layers and the image has 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := newSandbox(t), newHub(t)
			h.push(recipe{layers: baseLayers, history: `[{"created_by":"1"},{"created_by":"ENV","empty_layer":true}]`}.build(), "base", "1")
			app := recipe{layers: appLayers, history: c.history}.build()
			source := h.push(app, "app", "1")
			args := []string{"squash"}
			for _, f := range c.flags {
				args = append(args, strings.ReplaceAll(f, "HUB", h.host))
			}
			o := s.done(append(args, source, h.ref("app:slim"))...)
			var entries []string
			for _, e := range h.pull("app", "slim").parseConfig(t).History {
				by := strings.ReplaceAll(e.CreatedBy, sha256Of(app.plain[0]), "DIFFID")
				if e.Empty {
					by = "(" + by + ")"
				}
				entries = append(entries, by)
			}
			if got := strings.Join(entries, " "); got != c.want {
				t.Errorf("history %s\nwant    %s", got, c.want)
			}
			s.wantTexts(o, c.note)
		})
	}
}

// TestHistoryNamesTheSource makes runs recognisable without a clock.
func TestHistoryNamesTheSource(t *testing.T) {
	s, h := newSandbox(t), newHub(t)
	app := recipe{layers: appLayers}.build()
	source := h.push(app, "app", "1")
	s.done("squash", source, h.ref("app:slim"))
	want := regexp.MustCompile(`\{"created":"2024-01-02T03:04:05Z","created_by":"slim squash","comment":"source=` + sha256Of(app.manifest) + ` options=[0-9a-f]{16}"\}`)
	if c := string(h.pull("app", "slim").config); !want.MatchString(c) {
		t.Errorf("no entry like %s in\n%s", want, c)
	}
}
