target_sources(quantoscope_gui PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/BlockDots.cpp
  ${CMAKE_CURRENT_LIST_DIR}/CodebookLane.cpp
  ${CMAKE_CURRENT_LIST_DIR}/DeviationBars.cpp
  ${CMAKE_CURRENT_LIST_DIR}/EdgeMarks.cpp
  ${CMAKE_CURRENT_LIST_DIR}/Export.cpp
  ${CMAKE_CURRENT_LIST_DIR}/HeatMap.cpp
  ${CMAKE_CURRENT_LIST_DIR}/LabelledPoints.cpp
  ${CMAKE_CURRENT_LIST_DIR}/Legend.cpp
  ${CMAKE_CURRENT_LIST_DIR}/Overlay.cpp
  ${CMAKE_CURRENT_LIST_DIR}/Plot.cpp
  ${CMAKE_CURRENT_LIST_DIR}/PlotScroll.cpp
  ${CMAKE_CURRENT_LIST_DIR}/StackedBars.cpp
  ${CMAKE_CURRENT_LIST_DIR}/Ticks.cpp
  ${CMAKE_CURRENT_LIST_DIR}/TokenText.cpp)
