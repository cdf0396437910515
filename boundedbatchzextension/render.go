package boundedbatchzextension

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page is compiled in
	"encoding/base64"
	"fmt"
	"html/template"
	"strconv"
	"strings"
)

//go:embed page.html
var pageText string

//go:embed page.css
var styleText string

// styleHash is the only style that browsers apply to the page, as its Content-Security-Policy names it. There is no script.
var styleHash = func() string {
	sum := sha256.Sum256([]byte(styleText))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}()

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"style":     func() template.CSS { return template.CSS(styleText) }, //nolint:gosec // it is ours
	"sorts":     func() []string { return []string{"held", "oldest", "waiting"} },
	"limits":    func() []int { return []int{10, defaultLimit, 200, 1000} },
	"refreshes": func() []int { return []int{0, 2, 10} },
	"join":      func(all []string) string { return strings.Join(all, ", ") },
	"part":      func(capacity int64) int64 { return capacity - capacity/8 }, // from where it is nearly full
	"printable": printable,
	"count":     count,
	"size":      size,
}).Parse(pageText))

func render(to *bytes.Buffer, p *page) error { return pageTemplate.Execute(to, p) }

// count writes a number with thousands apart.
func count(n any) string {
	digits := fmt.Sprint(n)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// size writes a number of bytes.
func size(n any) string {
	bytes, _ := strconv.ParseFloat(fmt.Sprint(n), 64)
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	at := 0
	for ; bytes >= 1024 && at < len(units)-1; at++ {
		bytes /= 1024
	}
	if at == 0 {
		return fmt.Sprintf("%.0f B", bytes)
	}
	return fmt.Sprintf("%.1f %s", bytes, units[at])
}
