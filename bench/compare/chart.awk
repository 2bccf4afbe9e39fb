# Bars of speed from lines "GROUP<tab>SIDE<tab>TOKENS PER SECOND": each group's longest bar is its fastest side's.
BEGIN { FS = "\t"; split("#3b6ea5 #c0762c #8a8a8a", colors, " ") }
$3 != "-" {
  if (!($2 in side)) { names[++n_sides] = $2; side[$2] = n_sides }
  if (!($1 in first)) { groups[++n_groups] = $1; first[$1] = 1 }
  value[$1, $2] = $3
  if ($3 > most[$1]) most[$1] = $3
}
END {
  left = 110; width = 420; bar = 14; gap = 12; top = 34
  height = top + n_groups * (n_sides * bar + gap)
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", height
  print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
  for (i = 1; i <= n_sides; i++) {
    printf "<rect x=\"%d\" y=\"10\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", left + 150 * (i - 1), colors[i]
    printf "<text x=\"%d\" y=\"20\">%s</text>\n", left + 18 + 150 * (i - 1), names[i]
  }
  y = top
  for (g = 1; g <= n_groups; g++) {
    label = groups[g]
    sub(/^train-/, "training ", label)
    sub(/^decode-/, "decoding ", label)
    printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left - 8, y + n_sides * bar / 2 + 4, label
    for (i = 1; i <= n_sides; i++) {
      if (!((groups[g], names[i]) in value)) continue
      v = value[groups[g], names[i]]
      length_of = width * v / most[groups[g]]
      printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", left, y + (i - 1) * bar, length_of, bar - 2, colors[i]
      printf "<text x=\"%.1f\" y=\"%d\" font-size=\"11\">%.0f tokens/s</text>\n", left + length_of + 5, y + (i - 1) * bar + 10, v
    }
    y += n_sides * bar + gap
  }
  print "</svg>"
}
