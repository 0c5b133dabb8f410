#!/usr/bin/env bash
# Prints everything that the service keeps of the user whose TOKEN this is. Each line is a page of JSON: those of the
# list first, then those of each conversation, the newest messages first. It needs curl 7.84 or later.
set -euo pipefail

pages() {
    local url=$1 answer
    while [[ -n $url ]]; do
        answer=$(curl -fsS -H "Authorization: Bearer $TOKEN" -w '\n%header{link}' "$url")
        printf '%s\n' "${answer%$'\n'*}"
        url=$(sed -n 's/^<\(.*\)>; rel="next"$/\1/p' <<<"${answer##*$'\n'}")
    done
}

list=$(pages "$API/api/conversations?limit=${LIMIT:-1000}")
printf '%s\n' "$list"
# A quotation mark within a title has a backslash before it, so this finds the ids alone.
for id in $(grep -o '"id":[0-9]*' <<<"$list" | cut -d: -f2); do
    pages "$API/api/conversations/$id?limit=${LIMIT:-1000}"
done
