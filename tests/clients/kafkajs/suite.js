'use strict'
// All test files in one process, one test after the other: node suite.js

for (const file of ['admin', 'consume', 'groups', 'produce']) require(`./${file}.test`)
require('./support').closeWhenDone()
