package image

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Limits on documents, which are held in memory whole.
const (
	// maxManifestSize is that of a manifest or index in bytes, as registries
	// have it: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests
	maxManifestSize = 4 << 20
	// maxConfigSize is that of an image config in bytes.
	maxConfigSize = 8 << 20
	// maxDepth is how deep objects and arrays may nest.
	maxDepth = 200
	// maxItems is how many members an object or array may have that is taken
	// apart.
	maxItems = 1 << 16
)

// JSON documents are edited in place of being decoded and encoded: a container
// remembers every byte between its members, so that what is not edited is
// written back as it was. Members are found by their exact name. encoding/json
// would also take LAYERS for layers, and the last of two: where a name has
// such a double, two readers see two images, so that is an error.

// item is one member of an object or one element of an array.
type item struct {
	lead  []byte // white space before it
	name  string // decoded; empty in an array
	key   []byte // the name as written, up to the value; nil in an array
	value json.RawMessage
	trail []byte // white space after it
}

// container is an object or array taken apart one level deep.
type container struct {
	before, after []byte // white space around it
	open, close   byte
	blank         []byte // white space within it if it is empty
	items         []item
}

// object is a JSON object whose member names are unique.
type object struct{ container }

// array is a JSON array.
type array struct{ container }

// checkDocument checks that raw is a JSON document within the limits.
func checkDocument(raw []byte, limit int) error {
	if len(raw) > limit {
		return fmt.Errorf("%d bytes are more than %d", len(raw), limit)
	}
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = stringEnd(raw, i) - 1
		case '{', '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("nesting of more than %d levels", maxDepth)
			}
		case '}', ']':
			depth--
		}
	}
	if !json.Valid(raw) {
		return syntaxError(raw)
	}
	return nil
}

// syntaxError says where raw is no JSON.
func syntaxError(raw []byte) error {
	var v json.RawMessage
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("decoding JSON: %w", err)
	}
	return errors.New("decoding JSON: trailing data")
}

// parseObject takes an object apart whose members are the fields of a format:
// two names that differ only by case are an error, and so is a name that
// differs from one of fields only by case.
func parseObject(raw []byte, fields ...string) (*object, error) {
	o, err := parseMap(raw)
	if err != nil {
		return nil, err
	}
	folded := make(map[string]string, len(fields)+len(o.items))
	for _, f := range fields {
		folded[foldName(f)] = f
	}
	for _, m := range o.items {
		fold := foldName(m.name)
		if other, ok := folded[fold]; ok && other != m.name {
			return nil, fmt.Errorf("ambiguous member %.100q: it differs from %.100q only by case", m.name, other)
		}
		folded[fold] = m.name
	}
	return o, nil
}

// parseMap takes an object apart whose names are data, such as annotations;
// each may appear once.
func parseMap(raw []byte) (*object, error) {
	c, err := parseContainer(raw, '{', '}')
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(c.items))
	for _, m := range c.items {
		if seen[m.name] {
			return nil, fmt.Errorf("member %.100q appears twice", m.name)
		}
		seen[m.name] = true
	}
	return &object{c}, nil
}

// parseArray takes an array apart.
func parseArray(raw []byte) (*array, error) {
	c, err := parseContainer(raw, '[', ']')
	if err != nil {
		return nil, err
	}
	return &array{c}, nil
}

func parseContainer(raw []byte, open, close byte) (container, error) {
	if !json.Valid(raw) {
		return container{}, syntaxError(raw)
	}
	c := container{open: open, close: close}
	i := skipSpace(raw, 0)
	if raw[i] != open {
		return c, fmt.Errorf("%s where %s is expected", kindOf(raw[i]), kindOf(open))
	}
	c.before = raw[:i]
	i++
	if end := skipSpace(raw, i); raw[end] == close {
		c.blank, c.after = raw[i:end], raw[end+1:]
		return c, nil
	}
	for {
		var m item
		var err error
		if m, i, err = parseItem(raw, i, open == '{'); err != nil {
			return c, err
		}
		if len(c.items) == maxItems {
			return c, fmt.Errorf("more than %d members", maxItems)
		}
		c.items = append(c.items, m)
		i++
		if raw[i-1] == close {
			c.after = raw[i:]
			return c, nil
		}
	}
}

// parseItem reads a member or element of valid JSON from raw[i:] and returns
// the position of the comma or bracket that follows.
func parseItem(raw []byte, i int, named bool) (m item, next int, err error) {
	start := skipSpace(raw, i)
	m.lead = raw[i:start]
	value := start
	if named {
		end := stringEnd(raw, start)
		if err := json.Unmarshal(raw[start:end], &m.name); err != nil {
			return m, 0, fmt.Errorf("decoding a member's name: %w", err)
		}
		value = skipSpace(raw, skipSpace(raw, end)+1)
		m.key = raw[start:value]
	}
	end := valueEnd(raw, value)
	next = skipSpace(raw, end)
	m.value, m.trail = json.RawMessage(raw[value:end]), raw[end:next]
	return m, next, nil
}

func skipSpace(raw []byte, i int) int {
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\r' || raw[i] == '\n') {
		i++
	}
	return i
}

// stringEnd returns the position after the string that starts at raw[i].
func stringEnd(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		switch raw[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(raw)
}

// valueEnd returns the position after the value that starts at raw[i], in
// valid JSON.
func valueEnd(raw []byte, i int) int {
	depth := 0
	for i < len(raw) {
		switch raw[i] {
		case '"':
			if i = stringEnd(raw, i); depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return i
}

// kindOf names the kind of value that starts with c.
func kindOf(c byte) string {
	switch c {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	}
	return "a number"
}

// foldName maps names that encoding/json takes for each other to one: each
// letter to the smallest of its case variants.
func foldName(s string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, s)
}

// bytes returns the container with its edits; without any, the bytes that it
// was parsed from.
func (c *container) bytes() json.RawMessage {
	var b bytes.Buffer
	b.Write(c.before)
	b.WriteByte(c.open)
	if len(c.items) == 0 {
		b.Write(c.blank)
	}
	for i, m := range c.items {
		if i > 0 {
			b.WriteByte(',')
		}
		for _, part := range [][]byte{m.lead, m.key, m.value, m.trail} {
			b.Write(part)
		}
	}
	b.WriteByte(c.close)
	b.Write(c.after)
	return b.Bytes()
}

// add appends a member with the white space of the one before it.
func (c *container) add(m item) {
	if n := len(c.items); n > 0 {
		last := &c.items[n-1]
		m.lead, m.trail = last.lead, last.trail
		last.trail = nil
		if n > 1 {
			last.trail = c.items[n-2].trail
		}
	}
	c.items = append(c.items, m)
}

// remove takes the members from i up to j out.
func (c *container) remove(i, j int) {
	if i < j && j == len(c.items) && i > 0 {
		c.items[i-1].trail = c.items[j-1].trail
	}
	if i == 0 && j < len(c.items) && i < j {
		c.items[j].lead = c.items[0].lead
	}
	c.items = slices.Delete(c.items, i, j)
}

func (o *object) index(name string) int {
	return slices.IndexFunc(o.items, func(m item) bool { return m.name == name })
}

// get returns the value of a member; nil if it is absent or null.
func (o *object) get(name string) json.RawMessage {
	if i := o.index(name); i >= 0 && string(o.items[i].value) != "null" {
		return o.items[i].value
	}
	return nil
}

// set replaces the value of a member, or appends the member.
func (o *object) set(name string, value []byte) {
	if i := o.index(name); i >= 0 {
		o.items[i].value = value
		return
	}
	colon := []byte(":")
	if n := len(o.items); n > 0 {
		key := o.items[n-1].key
		colon = key[stringEnd(key, 0):]
	}
	o.add(item{name: name, key: slices.Concat(quoteJSON(name), colon), value: value})
}

// delete removes a member if it is there.
func (o *object) delete(name string) {
	if i := o.index(name); i >= 0 {
		o.remove(i, i+1)
	}
}

// text returns a member that is a string; empty if it is absent or null.
func (o *object) text(name string) (s string, err error) {
	raw := o.get(name)
	if raw == nil {
		return "", nil
	}
	if s, err = decodeText(raw); err != nil {
		return "", fmt.Errorf("%q: %w", name, err)
	}
	return s, nil
}

// decodeText decodes a value that is a string.
func decodeText(raw []byte) (s string, err error) {
	if raw[0] != '"' {
		return "", fmt.Errorf("%s where a string is expected", kindOf(raw[0]))
	}
	err = json.Unmarshal(raw, &s)
	return s, err
}

// integer returns a member that is a whole number; ok is false if it is absent
// or null.
func (o *object) integer(name string) (n int64, ok bool, err error) {
	raw := o.get(name)
	if raw == nil {
		return 0, false, nil
	}
	n, err = strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("%q: %.50q is not a whole number in range", name, raw)
	}
	return n, true, nil
}

// boolean returns a member that is true or false; false if it is absent or
// null.
func (o *object) boolean(name string) (bool, error) {
	switch raw := string(o.get(name)); raw {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, fmt.Errorf("%q: %s where a boolean is expected", name, kindOf(raw[0]))
	}
}

// texts returns a member that is an array of strings; nil if it is absent or
// null.
func (o *object) texts(name string) ([]string, error) {
	list, err := o.list(name)
	if list == nil || err != nil {
		return nil, err
	}
	out := make([]string, len(list.items))
	for i, m := range list.items {
		if out[i], err = decodeText(m.value); err != nil {
			return nil, fmt.Errorf("%q: element %d: %w", name, i+1, err)
		}
	}
	return out, nil
}

// list returns a member that is an array; nil if it is absent or null.
func (o *object) list(name string) (*array, error) {
	raw := o.get(name)
	if raw == nil {
		return nil, nil
	}
	a, err := parseArray(raw)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return a, nil
}

// annotations returns a member that maps names to strings; nil if it is absent
// or null.
func (o *object) annotations(name string) (map[string]string, error) {
	raw := o.get(name)
	if raw == nil {
		return nil, nil
	}
	m, err := parseMap(raw)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	out := make(map[string]string, len(m.items))
	for _, it := range m.items {
		if out[it.name], err = decodeText(it.value); err != nil {
			return nil, fmt.Errorf("%q: member %.100q: %w", name, it.name, err)
		}
	}
	return out, nil
}

// data returns a member that is base64; nil if it is absent or null.
func (o *object) data(name string) ([]byte, error) {
	s, err := o.text(name)
	if err != nil || o.get(name) == nil {
		return nil, err
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%q: decoding base64: %w", name, err)
	}
	return b, nil
}

// quoteJSON encodes a string; unlike json.Marshal it leaves <, > and & alone.
func quoteJSON(s string) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // encoding a string to memory cannot fail
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
