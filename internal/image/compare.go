package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// ConfigChange is a value that differs between two configs.
type ConfigChange struct {
	// Path names it, as config.Env[2].
	Path string `json:"path"`
	// A and B are the values as compact JSON; empty where there is none.
	A string `json:"a"`
	B string `json:"b"`
}

// CompareConfigs returns in which values two image configs differ, in the order
// of their paths. What only tells how the image was made up of layers does not
// count: rootfs and history.
func CompareConfigs(a, b []byte) ([]ConfigChange, error) {
	x, err := decodeConfig(a)
	if err != nil {
		return nil, err
	}
	y, err := decodeConfig(b)
	if err != nil {
		return nil, err
	}
	var c configComparer
	c.value("", x, y)
	return c, nil
}

func decodeConfig(raw []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	// Numbers stay as they are written: a large one would be rounded.
	d.UseNumber()
	var doc map[string]any
	if err := d.Decode(&doc); err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading config: %w", err)
	}
	delete(doc, "rootfs")
	delete(doc, "history")
	return doc, nil
}

type configComparer []ConfigChange

func (c *configComparer) value(path string, a, b any) {
	am, aok := a.(map[string]any)
	bm, bok := b.(map[string]any)
	if aok && bok {
		c.object(path, am, bm)
		return
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	if aok && bok {
		c.list(path, al, bl)
		return
	}
	if x, y := compact(a), compact(b); x != y {
		*c = append(*c, ConfigChange{path, x, y})
	}
}

// absent stands for a member or element that is not there, unlike null.
type absent struct{}

func (c *configComparer) object(path string, a, b map[string]any) {
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		at := k
		if path != "" {
			at = path + "." + k
		}
		c.value(at, valueAt(a, k), valueAt(b, k))
	}
}

func valueAt(m map[string]any, k string) any {
	if v, ok := m[k]; ok {
		return v
	}
	return absent{}
}

func (c *configComparer) list(path string, a, b []any) {
	for i := range max(len(a), len(b)) {
		c.value(fmt.Sprintf("%s[%d]", path, i), element(a, i), element(b, i))
	}
}

func element(l []any, i int) any {
	if i < len(l) {
		return l[i]
	}
	return absent{}
}

func compact(v any) string {
	if v == (absent{}) {
		return ""
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
