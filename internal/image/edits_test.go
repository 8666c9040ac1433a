package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

func set(key, value string) KeyValue { return KeyValue{Key: key, Value: value} }
func unset(key string) KeyValue      { return KeyValue{Key: key, Remove: true} }

// applyEdits makes edits without a change of layers and checks that Change says
// whether they give other bytes, and that making them again gives the same.
func applyEdits(t *testing.T, img *Image, e Edits) *Image {
	t.Helper()
	change, err := e.Change(img)
	if err != nil {
		t.Fatal(err)
	}
	out := mustRewrite(t, img, Rewrite{Kept: len(img.Layers), Edits: e})
	if other := !bytes.Equal(out.Config, img.Config) || !bytes.Equal(out.Manifest, img.Manifest); change != other {
		t.Errorf("change %t, and the bytes differ: %t", change, other)
	}
	if again, err := e.Change(out); again || err != nil {
		t.Errorf("the edits change their own result: %v", err)
	}
	return out
}

// editedMember checks what is a member of the result, and that no other member
// of the documents differs.
func editedMember(t *testing.T, img, out *Image, document, name, want string) {
	t.Helper()
	before, after := img.Config, out.Config
	if document == "manifest" {
		before, after = img.Manifest, out.Manifest
		sameBut(t, img.Config, out.Config)
		sameBut(t, before, after, name)
	} else {
		sameBut(t, before, after, name)
		sameBut(t, img.Manifest, out.Manifest, "config")
	}
	o, err := parseObject(after)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	if i := o.index(name); i >= 0 {
		got = string(o.items[i].value)
	}
	if got != want {
		t.Errorf("%s\n%s\nwant\n%s", name, got, want)
	}
}

func TestEditLabels(t *testing.T) {
	for _, tt := range []struct {
		name   string
		source string // of the config's member "config"; empty: absent
		edits  []KeyValue
		want   string
	}{
		{"none to a config without", "", nil, ""},
		{"set without a config", "", []KeyValue{set("k", "v")}, `{"Labels":{"k":"v"}}`},
		{"set in a null config", "null", []KeyValue{set("k", "v")}, `{"Labels":{"k":"v"}}`},
		{"set without labels", `{"Env":["A=1"], "Memory":0}`, []KeyValue{set("k", "v")}, `{"Env":["A=1"], "Memory":0, "Labels":{"k":"v"}}`},
		{"set in null labels", `{"Labels":null,"Volumes":null}`, []KeyValue{set("k", "v")}, `{"Labels":{"k":"v"},"Volumes":null}`},
		{"set in no labels", `{"Labels":{ }}`, []KeyValue{set("k", "v")}, `{"Labels":{"k":"v"}}`},
		{"new ones last", `{"Labels":{"b":"1"}}`, []KeyValue{set("c", "2"), set("a", "3")}, `{"Labels":{"b":"1","c":"2","a":"3"}}`},
		{"in place", `{"Labels":{"a":"1", "b" : "2", "c":"3"}}`, []KeyValue{set("b", "x")}, `{"Labels":{"a":"1", "b" : "x", "c":"3"}}`},
		{"an escaped key", `{"Labels":{"\u0061":"1"}}`, []KeyValue{set("a", "2")}, `{"Labels":{"\u0061":"2"}}`},
		{"the value that it has", `{"Labels":{"a":"\u0031"}}`, []KeyValue{set("a", "1")}, `{"Labels":{"a":"\u0031"}}`},
		{"over what is no string", `{"Labels":{"a":null,"b":1e400}}`, []KeyValue{set("a", "null")}, `{"Labels":{"a":"null","b":1e400}}`},
		{"an empty value", `{"Labels":{"a":"1"}}`, []KeyValue{set("a", "")}, `{"Labels":{"a":""}}`},
		{"keys that differ by case", `{"Labels":{"a":"1"}}`, []KeyValue{set("A", "2")}, `{"Labels":{"a":"1","A":"2"}}`},
		{"marks of JSON", `{}`, []KeyValue{set(`a"\`, "<&>\né")}, `{"Labels":{"a\"\\":"<&>\né"}}`},
		{"remove the first", `{"Labels":{"a":"1", "b":"2"}}`, []KeyValue{unset("a")}, `{"Labels":{"b":"2"}}`},
		{"remove the last of several", `{"Labels":{"a":"1", "b":"2"}}`, []KeyValue{unset("b")}, `{"Labels":{"a":"1"}}`},
		{"remove all", `{"X":1,"Labels":{"a":"1"}}`, []KeyValue{unset("a")}, `{"X":1}`},
		{"remove all of a config", `{"Labels":{"a":"1"}}`, []KeyValue{unset("a")}, `{}`},
		{"remove what is not there", `{"Labels":{"a":"1"}}`, []KeyValue{unset("b")}, `{"Labels":{"a":"1"}}`},
		{"remove from none", `{"Labels":{ }}`, []KeyValue{unset("b")}, `{"Labels":{ }}`},
		{"remove from null", `{"Labels":null}`, []KeyValue{unset("b")}, `{"Labels":null}`},
		{"remove from a null config", "null", []KeyValue{unset("b")}, "null"},
		{"remove from an empty config", "{ }", []KeyValue{unset("b")}, "{ }"},
		{"remove without a config", "", []KeyValue{unset("b")}, ""},
		{"set and removed", `{"Labels":{"a":"1" , "b":"2" }}`, []KeyValue{set("c", "3"), unset("c")}, `{"Labels":{"a":"1" , "b":"2" }}`},
		{"set and removed in null", `{"Labels":null}`, []KeyValue{set("c", "3"), unset("c")}, `{"Labels":null}`},
		{"set and removed without a config", "", []KeyValue{set("c", "3"), unset("c")}, ""},
		{"removed and set keeps its place", `{"Labels":{"a":"1","b":"2"}}`, []KeyValue{unset("a"), set("a", "3")}, `{"Labels":{"a":"3","b":"2"}}`},
		{"the last of two", `{"Labels":{"b":"2"}}`, []KeyValue{set("a", "1"), set("b", "x"), set("a", "3")}, `{"Labels":{"b":"x","a":"3"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, d := range []docs{ociDocs(), dockerDocs()} {
				if tt.source != "" {
					d = d.replaced(t, `"os":"linux"`, `"config":`+tt.source+`,"os":"linux"`)
				}
				img := d.mustOpen(t)
				out := applyEdits(t, img, Edits{Labels: tt.edits})
				editedMember(t, img, out, "config", "config", tt.want)
			}
		})
	}
}

func TestEditLabelsRefused(t *testing.T) {
	for _, tt := range []struct{ name, config, want string }{
		{"a label twice", `{"Labels":{"a":"1","\u0061":"2"}}`, `"config": "Labels": member "a" appears twice`},
		{"labels twice", `{"Labels":{},"Labels":{}}`, `"config": member "Labels" appears twice`},
		{"labels in another case", `{"labels":{}}`, `"config": ambiguous member "labels"`},
		{"another member twice", `{"Env":[],"env":[]}`, `"config": ambiguous member "env"`},
		{"labels that are a list", `{"Labels":["a=1"]}`, `"config": "Labels": an array where an object is expected`},
		{"a config that is a list", `[]`, `"config": an array where an object is expected`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := ociDocs().replaced(t, `"os":"linux"`, `"config":`+tt.config+`,"os":"linux"`)
			img := d.mustOpen(t)
			for _, kv := range []KeyValue{set("k", "v"), unset("k")} {
				r := Rewrite{Kept: 2, Edits: Edits{Labels: []KeyValue{kv}}}
				_, err := img.Rewrite(r)
				wantRefusal(t, err, "rewriting the config: "+tt.want, "")
				_, err = r.Edits.Change(img)
				wantRefusal(t, err, "editing the config: "+tt.want, "")
			}
			if _, err := img.Labels(); err == nil {
				t.Error("the labels were read")
			}
			// What is not edited is not looked at.
			mustRewrite(t, img, Rewrite{Kept: 2})
		})
	}
}

func TestEditAnnotations(t *testing.T) {
	const name = "org.opencontainers.image.base.name"
	added := newLayers(t, types.OCIManifestSchema1, 1)
	for _, tt := range []struct {
		name   string
		docs   docs
		source string // empty: absent
		r      Rewrite
		edits  []KeyValue
		want   string
	}{
		{"none before", ociDocs(), "", Rewrite{Kept: 2}, []KeyValue{set("k", "v")}, `{"k":"v"}`},
		{"null before", ociDocs(), "null", Rewrite{Kept: 2}, []KeyValue{set("k", "v")}, `{"k":"v"}`},
		{"in place and last", ociDocs(), `{"a" : "1", "b" : "2"}`, Rewrite{Kept: 2}, []KeyValue{set("c", "3"), set("a", "x")}, `{"a" : "x", "b" : "2", "c" : "3"}`},
		{"removed", ociDocs(), `{"a":"1","b":"2"}`, Rewrite{Kept: 2}, []KeyValue{unset("a")}, `{"b":"2"}`},
		{"the last one removed", ociDocs(), `{"a":"1"}`, Rewrite{Kept: 2}, []KeyValue{unset("a")}, ""},
		{"none removed from null", ociDocs(), "null", Rewrite{Kept: 2}, []KeyValue{unset("a")}, "null"},
		{"none removed from none", ociDocs(), "{ }", Rewrite{Kept: 2}, []KeyValue{unset("a")}, "{ }"},
		{"set and removed", ociDocs(), "", Rewrite{Kept: 2}, []KeyValue{set("a", "1"), unset("a")}, ""},
		{"a name of the base that is asked for", ociDocs(), "", Rewrite{Kept: 1, BaseName: "n"}, []KeyValue{set(name, "x")}, `{"` + name + `":"x"}`},
		{"a name of the base that is removed", ociDocs(), "", Rewrite{Kept: 1, BaseName: "n"}, []KeyValue{unset(name)}, ""},
		{"a name of the base on a whole squash", ociDocs(), `{"` + name + `":"old"}`, Rewrite{New: added}, []KeyValue{set(name, "x")}, `{"` + name + `":"x"}`},
		{"Docker to OCI", dockerDocs(), "", Rewrite{Kept: 2, Family: types.OCIManifestSchema1}, []KeyValue{set("k", "v")}, `{"k":"v"}`},
		{"removed from Docker", dockerDocs(), "", Rewrite{Kept: 2}, []KeyValue{unset("a")}, ""},
		{"removed from Docker that has it", dockerDocs(), `{"a":"1","b":"2"}`, Rewrite{Kept: 2}, []KeyValue{unset("a")}, `{"b":"2"}`},
		{"no new base, all kept", ociDocs(), `{"` + name + `":"old"}`, Rewrite{Kept: 2, BaseName: "n"}, nil, `{"` + name + `":"n"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.source != "" {
				tt.docs = tt.docs.replaced(t, `"schemaVersion":2`, `"annotations":`+tt.source+`,"schemaVersion":2`)
			}
			img := tt.docs.mustOpen(t)
			tt.r.Edits.Annotations = tt.edits
			out := mustRewrite(t, img, tt.r)
			var m struct{ Annotations json.RawMessage }
			if err := json.Unmarshal(out.Manifest, &m); err != nil {
				t.Fatal(err)
			}
			if got := string(m.Annotations); got != tt.want {
				t.Errorf("annotations %s, want %s", got, tt.want)
			}
			if tt.r.Kept == 2 && tt.r.Family == "" && tt.r.BaseName == "" {
				editedMember(t, img, applyEdits(t, img, tt.r.Edits), "manifest", "annotations", tt.want)
			}
		})
	}
	t.Run("left out are those that stay", func(t *testing.T) {
		d := ociDocs().replaced(t, string(types.OCILayerZStd), string(types.OCIUncompressedLayer)).
			replaced(t, `"schemaVersion":2`, `"annotations":{"a":"1","b":"2"},"schemaVersion":2`)
		e := Edits{Annotations: []KeyValue{unset("a"), unset("b")}}
		if out := mustRewrite(t, d.mustOpen(t), Rewrite{Kept: 2, Family: types.DockerManifestSchema2, Edits: e}); len(out.Notes) > 0 {
			t.Errorf("notes %q", out.Notes)
		}
	})
	t.Run("an annotation twice", func(t *testing.T) {
		img := ociDocs().replaced(t, `"schemaVersion":2`, `"annotations":{"a":"1","a":"2"},"schemaVersion":2`).mustOpen(t)
		e := Edits{Annotations: []KeyValue{unset("b")}}
		_, err := img.Rewrite(Rewrite{Kept: 2, Edits: e})
		wantRefusal(t, err, `rewriting the manifest: "annotations": member "a" appears twice`, "")
		_, err = e.Change(img)
		wantRefusal(t, err, `editing the manifest: "annotations": member "a" appears twice`, "")
	})
}

func TestEditCreated(t *testing.T) {
	const now = "2024-05-06T07:08:09Z"
	for _, tt := range []struct{ name, source, created, want, entry string }{
		{"replaced", `"created":"2020-01-02T03:04:05Z",`, now, `"` + now + `"`, `"created":"` + now + `",`},
		{"added", "", now, `"` + now + `"`, `"created":"` + now + `",`},
		{"null", `"created":null,`, now, `"` + now + `"`, `"created":"` + now + `",`},
		{"no string", `"created":1e400,`, now, `"` + now + `"`, `"created":"` + now + `",`},
		{"the one that it has", `"created":"\u0032024-05-06T07:08:09Z",`, now, `"\u0032024-05-06T07:08:09Z"`, `"created":"\u0032024-05-06T07:08:09Z",`},
		{"not asked for", `"created" : "x",`, "", `"x"`, `"created":"x",`},
		{"not asked for and absent", "", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := ociDocs().replaced(t, `"created":"2020-01-02T03:04:05Z",`, tt.source).mustOpen(t)
			e := Edits{Created: tt.created}
			editedMember(t, img, applyEdits(t, img, e), "config", "created", tt.want)
			out := mustRewrite(t, img, Rewrite{Kept: 1, New: newLayers(t, img.MediaType, 1), CreatedBy: "n", Edits: e})
			want := `"history":[{"created_by":"ADD"},{"created_by":"ENV","empty_layer":true},{"created_by":"RUN","empty_layer":true},{` + tt.entry + `"created_by":"n"}]`
			if !strings.Contains(string(out.Config), want) {
				t.Errorf("config\n%s\nwant\n%s", out.Config, want)
			}
		})
	}
}

// TestEditsKeepBytes makes all edits in a config and manifest that hold
// everything odd.
func TestEditsKeepBytes(t *testing.T) {
	odd := strings.ReplaceAll(oddMembers, "\xff", "\ufffd")
	config := func(created, labels string) string {
		return "{\n  \"created\" : " + created + ",\n  " + odd + ",\n  \"os\":\"linux\"," +
			`"container_config" : { "Labels":{"a":"1"}, "labels":null }, "moby.buildkit.buildinfo.v1":"e30=", "moby.buildkit.cache.v0":{"a":1e400},` +
			"\n  \"config\" : {\n    " + odd + ",\n    \"Healthcheck\":{\"StartInterval\":5000000000},\n    \"Labels\" : {\n      " + labels + "\n    },\n    \"Volumes\":null\n  }," +
			`"rootfs": {"x":1e400, "type": "layers", "diff_ids": [` + quotedIDs(1) + " ] },\n" +
			` "history":[ {"created":"x" , "created_by":"A","y":1e400} ]` + "\n}\n"
	}
	manifest := func(config, annotations string) string {
		return "{\n  " + odd + ",\n  \"schemaVersion\" : 2,\n  \"annotations\" : { " + annotations + " },\n" +
			`  "layers": [ ` + layerJSON(types.OCILayer, 0, `,"annotations":{"a":"1"}, "z":1e400`) + ` ], "subject":{"digest":1},` +
			`  "config":{ "size" : ` + fmt.Sprint(len(config)) + `, "digest":"` + digestOf([]byte(config)).String() + `", "mediaType":"application/vnd.oci.image.config.v1+json" }` + "\n}"
	}
	before := config(`"2020-01-02T03:04:05.6Z"`, `"gone":"1",`+"\n      "+`"a\/b" : "2",`+"\n      "+`"A/B" : "3"`)
	after := config(`"2024-05-06T07:08:09Z"`, `"a\/b" : "new",`+"\n      "+`"A/B" : "3",`+"\n      "+`"k" : "v"`)
	source := manifest(before, `"a":"1", "b" : "2", "c":1e400`)
	img, err := newImage("img", digestOf([]byte(source)), types.OCIManifestSchema1, []byte(source), []byte(before))
	if err != nil {
		t.Fatal(err)
	}
	out := applyEdits(t, img, Edits{
		Labels:      []KeyValue{set("k", "v"), unset("gone"), set("a/b", "new")},
		Annotations: []KeyValue{set("b", "x"), unset("a")},
		Created:     "2024-05-06T07:08:09Z",
	})
	if got := string(out.Config); got != after {
		t.Errorf("config\n%s\nwant\n%s", got, after)
	}
	if got, want := string(out.Manifest), manifest(after, `"b" : "x", "c":1e400`); got != want {
		t.Errorf("manifest\n%s\nwant\n%s", got, want)
	}
}

// TestEditsUndone sets in one run what another removes.
func TestEditsUndone(t *testing.T) {
	indented := func(d docs) docs {
		var b bytes.Buffer
		if err := json.Indent(&b, []byte(d.config), "", "  "); err != nil {
			t.Fatal(err)
		}
		d.config = b.String() + "\n"
		d.manifest = strings.ReplaceAll(d.manifest, `,"`, ",\n  \"")
		return d
	}
	for _, tt := range []struct{ name, old, new string }{
		{"nothing there", `"os":"linux"`, `"config":{"Env":[],"User":"u"},"os":"linux"`},
		{"an empty config", `"os":"linux"`, `"config":{},"os":"linux"`},
		{"other labels", `"os":"linux"`, `"config":{"Labels":{"a":"1"},"User":"u"},"os":"linux"`},
		{"other annotations", `"schemaVersion":2`, `"annotations": {"a": "1"},"schemaVersion":2`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := ociDocs().replaced(t, tt.old, tt.new)
			if !strings.Contains(d.config, `"config"`) {
				d = d.replaced(t, `"os":"linux"`, `"config":{},"os":"linux"`)
			}
			for _, d := range []docs{d, indented(d)} {
				img := d.mustOpen(t)
				done := applyEdits(t, img, Edits{Labels: []KeyValue{set("k", "v")}, Annotations: []KeyValue{set("k", "v")}})
				undone := applyEdits(t, done, Edits{Labels: []KeyValue{unset("k")}, Annotations: []KeyValue{unset("k")}})
				if !bytes.Equal(undone.Config, img.Config) || !bytes.Equal(undone.Manifest, img.Manifest) {
					t.Errorf("config and manifest\n%s\n%s\nwant\n%s\n%s", undone.Config, undone.Manifest, img.Config, img.Manifest)
				}
			}
		})
	}
}

func TestEditsCheck(t *testing.T) {
	const oci, docker = types.OCIManifestSchema1, types.DockerManifestSchema2
	for _, tt := range []struct {
		name   string
		e      Edits
		family types.MediaType
		want   string // empty: no error
		usage  bool   // a *UsageError, else a *HintError
	}{
		{"none", Edits{}, docker, "", false},
		{"all in OCI", Edits{Labels: []KeyValue{set("k", "")}, Annotations: []KeyValue{set("k", ""), unset("b")}, Created: "2020-01-02T03:04:05Z"}, oci, "", false},
		{"annotation in Docker", Edits{Annotations: []KeyValue{set("k", "v")}}, docker, "a Docker manifest has no annotations", false},
		{"annotation removed in Docker", Edits{Annotations: []KeyValue{unset("k")}}, docker, "", false},
		{"label in Docker", Edits{Labels: []KeyValue{set("k", "v")}}, docker, "", false},
		{"label without a name", Edits{Labels: []KeyValue{set("", "v")}}, oci, "label without a name", true},
		{"annotation without a name", Edits{Annotations: []KeyValue{unset("")}}, docker, "annotation without a name", true},
		{"name that is not UTF-8", Edits{Labels: []KeyValue{unset("\xff")}}, oci, `label "\xff" is not UTF-8`, true},
		{"value that is not UTF-8", Edits{Annotations: []KeyValue{set("k", "\xff")}}, oci, `annotation "k" is not UTF-8`, true},
		{"value that is not used", Edits{Labels: []KeyValue{{Key: "k", Value: "\xff", Remove: true}}}, oci, "", false},
		{"time in seconds", Edits{Created: "1"}, oci, `"1" is not a time`, true},
		{"time beyond", Edits{Created: "9999-12-31T23:59:59-01:00"}, oci, "outside of the years", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.e.Check(tt.family)
			_, rewritten := ociDocs().replaced(t, string(types.OCILayerZStd), string(types.OCILayer)).mustOpen(t).
				Rewrite(Rewrite{Kept: 2, Family: tt.family, Edits: tt.e})
			if tt.want == "" {
				if err != nil || rewritten != nil {
					t.Errorf("errors %v, %v", err, rewritten)
				}
				return
			}
			for _, err := range []error{err, rewritten} {
				hint := "--format oci"
				if tt.usage {
					hint = ""
				}
				wantRefusal(t, err, tt.want, hint)
				if usage := new(UsageError); errors.As(err, &usage) != tt.usage {
					t.Errorf("error of type %T", err)
				}
			}
		})
	}
}

func TestEditsChange(t *testing.T) {
	plain := tarOf(tarFile("a", "1"))
	classic, err := newClassicImage("f.tar", []byte(ociDocs().config), []int64{int64(len(plain)), int64(len(plain))})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		img  *Image
		e    Edits
		want bool
	}{
		{"none", ociDocs().mustOpen(t), Edits{}, false},
		{"the time that it has", ociDocs().mustOpen(t), Edits{Created: "2020-01-02T03:04:05Z"}, false},
		{"another time", ociDocs().mustOpen(t), Edits{Created: "2020-01-02T03:04:06Z"}, true},
		{"an annotation that Docker's result will refuse", dockerDocs().mustOpen(t), Edits{Annotations: []KeyValue{set("k", "v")}}, true},
		{"classic, none", classic, Edits{}, false},
		{"classic, label", classic, Edits{Labels: []KeyValue{set("k", "v")}}, true},
		{"classic, label that is not there", classic, Edits{Labels: []KeyValue{unset("k")}}, false},
		{"classic, annotation", classic, Edits{Annotations: []KeyValue{set("k", "v")}}, true},
		{"classic, annotation that is not there", classic, Edits{Annotations: []KeyValue{unset("k")}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tt.e.Change(tt.img); got != tt.want || err != nil {
				t.Errorf("%t, %v, want %t", got, err, tt.want)
			}
		})
	}
	t.Run("edits that make no sense", func(t *testing.T) {
		_, err := Edits{Labels: []KeyValue{set("", "")}}.Change(classic)
		wantRefusal(t, err, "label without a name", "")
	})
}

func TestEditsClassic(t *testing.T) {
	plain := tarOf(tarFile("a", "1"))
	d := ociDocs().replaced(t, diffID(0), digestOf(plain).String()).replaced(t, diffID(1), digestOf(plain).String())
	img, err := newClassicImage("f.tar", []byte(d.config), []int64{int64(len(plain)), int64(len(plain))})
	if err != nil {
		t.Fatal(err)
	}
	img.Layers[0].Open, img.Layers[1].Open = opens(plain), opens(plain)
	if err := CheckKept(img.Layers, types.DockerManifestSchema2); err != nil {
		t.Error(err)
	}
	labels := []KeyValue{set("k", "v")}
	want := strings.TrimSuffix(strings.Replace(d.config, "2020-", "2024-", 1), "}") + `,"config":{"Labels":{"k":"v"}}}`
	for _, tt := range []struct {
		name        string
		family      types.MediaType
		annotations []KeyValue
		tail        string // of the manifest
	}{
		{"Docker", "", []KeyValue{unset("a")}, "]}"},
		{"OCI", types.OCIManifestSchema1, []KeyValue{set("a", "1")}, `],"annotations":{"a":"1"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := Edits{Labels: labels, Annotations: tt.annotations, Created: "2024-01-02T03:04:05Z"}
			out := mustRewrite(t, img, Rewrite{Kept: 2, Family: tt.family, Edits: e})
			if got := string(out.Config); got != want {
				t.Errorf("config\n%s\nwant\n%s", got, want)
			}
			if !strings.HasSuffix(string(out.Manifest), tt.tail) {
				t.Errorf("manifest %s", out.Manifest)
			}
		})
	}
	_, err = img.Rewrite(Rewrite{Kept: 2, Edits: Edits{Annotations: []KeyValue{set("a", "1")}}})
	wantRefusal(t, err, "a Docker manifest has no annotations", "--format oci")
}

func TestParseTime(t *testing.T) {
	for _, tt := range []struct {
		in, want string // an empty want: an error
		epoch    bool   // also a SOURCE_DATE_EPOCH
	}{
		{"2020-01-02T03:04:05Z", "2020-01-02T03:04:05Z", false},
		{"2020-01-02T03:04:05.678901234Z", "2020-01-02T03:04:05.678901234Z", false},
		{"2020-01-02T03:04:05.600Z", "2020-01-02T03:04:05.6Z", false},
		{"2020-01-02T03:04:05.6+02:30", "2020-01-02T00:34:05.6Z", false},
		{"0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", false},
		{"9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", false},
		{"0", "1970-01-01T00:00:00Z", true},
		{"1577934245", "2020-01-02T03:04:05Z", true},
		{"-1", "1969-12-31T23:59:59Z", true},
		{"0001", "1970-01-01T00:00:01Z", true},
		{"253402300799", "9999-12-31T23:59:59Z", true},
		{"-62167219200", "0000-01-01T00:00:00Z", true},
		{"253402300800", "", false},
		{"-62167219201", "", false},
		{"9223372036854775807", "", false},
		{"-9223372036854775808", "", false},
		{"99999999999999999999999999", "", false},
		{"0000-01-01T00:00:00+01:00", "", false},
		{"9999-12-31T23:59:59-01:00", "", false},
		{"10000-01-01T00:00:00Z", "", false},
		{"-0001-01-01T00:00:00Z", "", false},
		{"2020-01-02", "", false},
		{"2020-01-02T03:04:05", "", false},
		{"2020-01-02 03:04:05Z", "", false},
		{"2020-01-02T03:04:60Z", "", false},
		{"2020-01-02T03:04:05.1234567899Z", "2020-01-02T03:04:05.123456789Z", false},
		{"2020-01-02T3:04:05Z", "", false},
		{"2020-01-02T03:04:05,6Z", "", false},
		{"2020-01-02T03:04:05+24:00", "", false},
		{"2021-02-29T03:04:05Z", "", false},
		{"", "", false},
		{"-", "", false},
		{"+1", "", false},
		{"1.5", "", false},
		{"1e3", "", false},
		{"0x10", "", false},
		{"1_000", "", false},
		{" 1", "", false},
		{"1\n", "", false},
		{"now", "", false},
		{"\u0661", "", false},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseTime(tt.in)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
			if err != nil && !errors.As(err, new(*UsageError)) {
				t.Errorf("error of type %T", err)
			}
			if err == nil {
				if again, err := ParseTime(got); again != got || err != nil {
					t.Errorf("read again: %q, %v", again, err)
				}
			}
			epoch, err := ParseEpoch(tt.in)
			if (err == nil) != tt.epoch || tt.epoch && epoch != tt.want {
				t.Errorf("as seconds: %q, %v", epoch, err)
			}
			if err != nil && !errors.As(err, new(*UsageError)) {
				t.Errorf("as seconds: error of type %T", err)
			}
		})
	}
}

func TestImageMaps(t *testing.T) {
	for _, tt := range []struct {
		name, labels, annotations string // empty: absent
		want                      map[string]string
		err                       string
	}{
		{"absent", "", "", nil, ""},
		{"null", "null", "null", nil, ""},
		{"empty", "{}", "{}", nil, ""},
		{"some", `{"a":"\u0031","A":""}`, `{"a":"\u0031","A":""}`, map[string]string{"a": "1", "A": ""}, ""},
		{"one twice", `{"a":"1","a":"1"}`, `{"a":"1","a":"1"}`, nil, `member "a" appears twice`},
		{"a number", `{"a":1}`, `{"a":1}`, nil, `member "a": a number where a string is expected`},
		{"a list", `[]`, `[]`, nil, "an array where an object is expected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := ociDocs()
			if tt.labels != "" {
				d = d.replaced(t, `"os":"linux"`, `"os":"linux","config":{"Labels":`+tt.labels+`}`).
					replaced(t, `"schemaVersion":2`, `"schemaVersion":2,"annotations":`+tt.annotations)
			}
			img := d.mustOpen(t)
			for _, read := range []func() (map[string]string, error){img.Labels, img.Annotations} {
				got, err := read()
				if tt.err != "" {
					wantRefusal(t, err, tt.err, "")
				} else if err != nil || got == nil || !maps.Equal(got, tt.want) {
					t.Errorf("%v, %v, want %v", got, err, tt.want)
				}
			}
		})
	}
	t.Run("without a manifest", func(t *testing.T) {
		img, err := newClassicImage("f.tar", []byte(ociDocs().config), []int64{1, 1})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := img.Annotations(); got == nil || len(got) > 0 || err != nil {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestImageHistory(t *testing.T) {
	for _, tt := range []struct {
		name, history string
		want          []HistoryEntry
		err           string
	}{
		{"absent", "", nil, ""},
		{"null", "null", nil, ""},
		{"empty", "[]", nil, ""},
		{"some", `[{},{"created_by":"A\u0042","comment":"c","x":1e400},{"created_by":null,"empty_layer":true}]`,
			[]HistoryEntry{{}, {CreatedBy: "AB", Comment: "c"}, {Empty: true}}, ""},
		{"a number", `[{},{"created_by":1}]`, nil, `history entry 2: "created_by": a number`},
		{"an object", `[{"comment":{}}]`, nil, `history entry 1: "comment": an object`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := historyImage(t, tt.history, []int{0, 1}).History()
			if tt.err != "" {
				wantRefusal(t, err, tt.err, "")
			} else if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

// FuzzEdits edits arbitrary documents: an error or a result in which nothing
// else has changed, which holds what was set, and which the same edits leave as
// it is.
func FuzzEdits(f *testing.F) {
	for _, d := range []docs{ociDocs(), dockerDocs()} {
		f.Add([]byte(d.manifest), []byte(d.config), "k", "v", "x", int64(1577934245))
		f.Add([]byte(strings.Replace(d.manifest, `"schemaVersion":2`, `"annotations": {"a":"1"},"schemaVersion":2`, 1)),
			[]byte(strings.Replace(d.config, `"os"`, "\n"+`"config" : {"Labels":{"a":"1"}}, `+oddMembers+`, "os"`, 1)), "a", "\"", "a", int64(0))
	}
	f.Fuzz(func(t *testing.T, manifest, config []byte, key, value, gone string, epoch int64) {
		img, err := docs{manifest: string(manifest), config: string(config)}.open()
		if err != nil {
			return
		}
		created, err := ParseEpoch(fmt.Sprint(epoch))
		if err != nil {
			return
		}
		e := Edits{Labels: []KeyValue{unset(gone), set(key, value)}, Created: created}
		if img.MediaType == types.OCIManifestSchema1 {
			e.Annotations = e.Labels
		}
		change, changeErr := e.Change(img)
		out, err := img.Rewrite(Rewrite{Kept: len(img.Layers), Edits: e})
		if err != nil || changeErr != nil {
			return
		}
		edited := []string{"history"}
		if change {
			edited = append(edited, "created", "config")
		}
		sameBut(t, img.Config, out.Config, edited...)
		sameBut(t, img.Manifest, out.Manifest, "annotations", "config", "layers", "mediaType")
		if again, err := e.Change(out); again || err != nil {
			t.Errorf("the edits change their own result: %v\n%s\n%s", err, out.Manifest, out.Config)
		}
		if labels, err := out.Labels(); err == nil && labels[key] != value {
			t.Errorf("labels %q, want %q of %q", labels, value, key)
		}
	})
}
