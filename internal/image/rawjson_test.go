package image

import (
	"strconv"
	"strings"
	"testing"
)

// oddMembers are members that a decoder and encoder would change.
const oddMembers = `"big": 12345678901234567890123, "float":1.50 , "huge":1e400,
	"escaped\u006bey" : "\u00e9\/\ud83d\ude00", "null":null, "empty":"", "html":"<&>",
	"nested": {"b":1,"a":[ 1 , {"x":2,"x":3,"X":4} ]}, "bad utf-8":"` + "\xff" + `"`

func TestParseContainerKeepsBytes(t *testing.T) {
	for name, in := range map[string]string{
		"empty":        "{}",
		"empty, wide":  " {\n} \n",
		"one":          `{"a":1}`,
		"wide":         "\t{ \"a\" : [ 1 ] ,\n\"b\":{} }\r\n",
		"odd":          "{" + oddMembers + "}",
		"string marks": `{"a\"{":"}],\\","b":"\\\""}`,
		"empty name":   `{"":1}`,
	} {
		t.Run("object "+name, func(t *testing.T) {
			o, err := parseObject([]byte(in))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(o.bytes()); got != in {
				t.Errorf("got\n%q\nwant\n%q", got, in)
			}
		})
		t.Run("array "+name, func(t *testing.T) {
			in := "[ " + in + "," + in + "]"
			a, err := parseArray([]byte(in))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(a.bytes()); got != in || len(a.items) != 2 {
				t.Errorf("%d elements\n%q\nwant\n%q", len(a.items), got, in)
			}
		})
	}
}

func TestObjectEdit(t *testing.T) {
	set := func(o *object) { o.set("x", []byte("9")) }
	drop := func(o *object) { o.delete("x") }
	for _, tt := range []struct {
		name, in string
		edit     func(*object)
		want     string
	}{
		{"set", `{ "a":1, "x" : [1] , "b":2}`, set, `{ "a":1, "x" : 9 , "b":2}`},
		{"set null", `{"x":null}`, set, `{"x":9}`},
		{"set an escaped name", `{"\u0078":1}`, set, `{"\u0078":9}`},
		{"add to an empty one", `{ }`, set, `{"x":9}`},
		{"add to one line", `{"a": 1}`, set, `{"a": 1,"x": 9}`},
		{"add to a list of lines", "{\n  \"a\": 1,\n  \"b\": 2\n}\n", set, "{\n  \"a\": 1,\n  \"b\": 2,\n  \"x\": 9\n}\n"},
		{"delete the only one", "{\n  \"x\": 1\n}", drop, "{}"},
		{"delete the first", `{"x":1, "a":2}`, drop, `{"a":2}`},
		{"delete a middle one", `{"a":1, "x":2, "b":3}`, drop, `{"a":1, "b":3}`},
		{"delete the last", "{\n  \"a\": 1,\n  \"x\": 2\n}", drop, "{\n  \"a\": 1\n}"},
		{"delete what is not there", `{"a":1}`, drop, `{"a":1}`},
		{"beside odd members", "{" + oddMembers + `, "x":1}`, set, "{" + oddMembers + `, "x":9}`},
		{"add after odd members", "{" + oddMembers + `}`, set, "{" + oddMembers + `, "x":9}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := parseObject([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			tt.edit(o)
			if got := string(o.bytes()); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestParseObjectAmbiguous(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"twice", `{"layers":[1],"layers":[2]}`, `member "layers" appears twice`},
		{"twice, once escaped", `{"layers":1,"l\u0061yers":2}`, `member "layers" appears twice`},
		{"other case", `{"a":1,"A":2}`, `ambiguous member "A": it differs from "a" only by case`},
		{"other case of a field", `{"Layers":[1]}`, `ambiguous member "Layers": it differs from "layers" only by case`},
		{"long s of a field", "{\"layer\u017f\":[1]}", "ambiguous member"},
		{"kelvin sign", "{\"\u212a\":1,\"k\":2}", "ambiguous member"},
		{"equal after repair", "{\"\xff\":1,\"\\ufffd\":2}", "appears twice"},
		{"array", `[]`, "an array where an object is expected"},
		{"null", `null`, "null where an object is expected"},
		{"text after it", `{} {}`, "decoding JSON"},
		{"byte order mark", "\ufeff{}", "decoding JSON"},
		{"comment", `{/**/}`, "decoding JSON"},
		{"nothing", ``, "decoding JSON"},
		{"truncated", `{"a":"\`, "decoding JSON"},
		{"too many members", "{" + manyMembers(maxItems+1) + "}", "more than 65536 members"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseObject([]byte(tt.in), "layers"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	t.Run("names of a map differ by case", func(t *testing.T) {
		if _, err := parseMap([]byte(`{"a":"1","A":"2"}`)); err != nil {
			t.Error(err)
		}
	})
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(strconv.Itoa(i)) + ":0")
	}
	return b.String()
}

func TestCheckDocument(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"brackets in strings", `{"a":"` + strings.Repeat("[", 2*maxDepth) + `"}`, ""},
		{"deepest", strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth), ""},
		{"too deep", strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), "nesting of more than 200 levels"},
		{"too deep and open", strings.Repeat(`{"a":`, 1<<16), "nesting"},
		{"too long", `"` + strings.Repeat("a", 1<<20) + `"`, "1048578 bytes are more than 1048576"},
		{"closing brackets", "]]]]", "decoding JSON"},
		{"open string", `"\`, "decoding JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := checkDocument([]byte(tt.in), 1<<20)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestObjectRead(t *testing.T) {
	o, err := parseObject([]byte(`{"s":"a\u0062","n":7,"f":1.5,"t":true,"l":["x","y"],"m":{"k":"v"},"d":"YWI=","z":null,"bad":["x",1],"e":{"k":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := o.text("s"); s != "ab" || err != nil {
		t.Errorf("text: %q, %v", s, err)
	}
	if n, ok, err := o.integer("n"); n != 7 || !ok || err != nil {
		t.Errorf("integer: %d, %t, %v", n, ok, err)
	}
	if b, err := o.boolean("t"); !b || err != nil {
		t.Errorf("boolean: %t, %v", b, err)
	}
	if l, err := o.texts("l"); strings.Join(l, "") != "xy" || err != nil {
		t.Errorf("texts: %q, %v", l, err)
	}
	if m, err := o.annotations("m"); m["k"] != "v" || err != nil {
		t.Errorf("annotations: %q, %v", m, err)
	}
	if d, err := o.data("d"); string(d) != "ab" || err != nil {
		t.Errorf("data: %q, %v", d, err)
	}
	for _, name := range []string{"z", "absent"} {
		s, err1 := o.text(name)
		_, ok, err2 := o.integer(name)
		b, err3 := o.boolean(name)
		l, err4 := o.texts(name)
		m, err5 := o.annotations(name)
		d, err6 := o.data(name)
		if s != "" || ok || b || l != nil || m != nil || d != nil {
			t.Errorf("%s: %q, %t, %t, %q, %q, %q", name, s, ok, b, l, m, d)
		}
		for _, err := range []error{err1, err2, err3, err4, err5, err6} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	_, err1 := o.text("n")
	_, _, err2 := o.integer("f")
	_, err3 := o.boolean("s")
	_, err4 := o.texts("bad")
	_, err5 := o.annotations("e")
	_, err6 := o.data("s")
	_, err7 := o.list("m")
	for i, err := range []error{err1, err2, err3, err4, err5, err6, err7} {
		if err == nil {
			t.Errorf("wrong kind %d was taken", i)
		}
	}
}
